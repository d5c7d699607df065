"""The `tieline` command: thin faces over the library (extra `cli`).

From the ground up: `units`, `written`, `visible` and `payload` are pure; `translation`, `exits`,
`log`, `settings`, `parameters` and `help_screen` are what every command shares; `serve`,
`connect` and `send` are the commands; `app` is the group that finds them by name.
"""
