"""The sandbox: a simulated provider that speaks the wire formats of all API families over real HTTP.

It is for tests, the demo, and users without a provider key. It accepts orders, pretends to work on them, answers status
requests and calls back, at no cost. A prompt may contain options that cause trouble (see `options`), and its ledger
shows whether something was bought twice.

Read `options` (what a prompt may say), `progress` (how far the work is), `purchase` and `ledger` (what was bought),
then `family` and one of `rivya`, `apixo`, `revid`, `gateway`, `kie`, `veo` (each API's format), then `handlers`
(requests), `plan`, `posts` and `callbacks` (send the callbacks, signed by `signing`), and `app` (which combines them).
There are also `webhooks` (endpoints of an account), `uploads` (reference files) and `balances`.

It must never import anything of `receiver` outside this package: it is written from the providers' documents alone, so
that our reading of them is tested against something that does not share it.
"""
