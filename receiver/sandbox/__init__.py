"""The sandbox: a simulated provider that speaks the wire formats of all API families over real HTTP.

It serves tests, the demo and everybody who has no provider key yet. It takes orders, pretends to work on them, answers
status requests and calls back, at no cost. A prompt may order troubles from it (see `knobs`), and its ledger answers
the question whether something was bought twice.

Read `knobs` (what may be ordered), `truth` (how far the work is), `purchase` and `ledger` (what was bought), then
`family` and one of `rivya`, `apixo`, `revid`, `gateway`, `kie`, `veo` (how each API says it), then `desk` (takes
requests), `plan`, `letters` and `callbacks` (post the callbacks, signed by `signing`), and `app` (puts it together).
Beside the orders stand `webhooks` (endpoints of an account), `uploads` (reference files) and `balances`.

It must never import anything of `receiver` outside this package: it is written from the providers' documents alone, so
that our reading of them is tested against something that does not share it.
"""
