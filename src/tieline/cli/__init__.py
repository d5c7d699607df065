"""The `tieline` command: thin faces over the library (extra `cli`).

From the ground up: `units`, `written`, `visible`, `rule_values` with `limit_values` and
`setting_values`, `settings_lines` and `payload` are pure; `translation`, `exits`, `log`,
`settings`, `options`, `parameters`, `help_screen` and `commands` are what every command shares;
`serve`, `guard`, `connect`, `send`, `config_command` and `ctl` are the commands; `app` is the group
that finds them by name. Of the guard, `guard_settings` says what each listener is told,
`guard_making` makes its guard, `guard_together` sees that none is in another's way, `guard_running`
and `guard_telling` are its life, and `guard_check` and `guard_reload` what their names say.
"""
