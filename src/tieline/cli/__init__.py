"""The `tieline` command: thin faces over the library (extra `cli`).

From the ground up: `units`, `written`, `visible`, `limit_values`, `settings_lines` and `payload`
are pure; `translation`, `exits`, `log`, `settings`, `options`, `parameters`, `help_screen` and
`commands` are what every command shares; `serve`, `connect`, `send`, `config_command` and `ctl`
are the commands; `app` is the group that finds them by name.
"""
