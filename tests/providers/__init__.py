"""Recorded messages of every API family, byte exact, and what they mean; `test_contract` runs each over its own.

A folder here is named like its family in the registry. `NAME.http` is one message as it crosses the wire, `NAME.json`
beside it says what it means, after the provider's documents and never after our reading of them:

| key | says |
|---|---|
| `direction` | `create`, `status` or `balance`, an answer; `callback`, a request to us; `request`, one of ours |
| `basis` | `documented` by the provider, `observed` in public clients, `inferred` from relatives, or `constructed` |
| `balance` | the amount that it tells; of a `request`, that it asks for one |
| `event` | what it tells, in the words of `Event`; what is left out is None or empty, `notices` are counted |
| `raises` | the error it is: its class, and what matters of `code`, `message`, `told`, `retry_after` |
| `says`, `never` | within `raises`: what its message has to hold, and what it must not |
| `ask_again` | of a status answer: it tells no state, by an error or by none |
| `account`, `received_at` | of a `callback`: settings of the account that it comes to, and when, in milliseconds |
| `signature` | of a `callback`: what its valid signature covers |
| `submit`, `status` | of a `request`: the order or the remote task it is for, with `callback_url` and `key` beside it |

`_any` holds answers and callbacks that mean the same in every family. `account.json` holds settings that a family has
no default for. So a further family is one file, one entry in the registry, and one folder here.
"""
