"""`tieline bench`: load for a service, and what it tells, as text, JSON or a page.

`command` has the flags of `flags`, and makes a plan of them with `planning` and `saying`; `doing`
runs it. `live` tells while it runs, `report` afterwards, `page` as HTML, `files` for programs;
`diff` sets two results beside each other.
"""
