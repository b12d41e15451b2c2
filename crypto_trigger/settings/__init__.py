"""Where each value comes from.

`load.load` finds the value of each setting: flag, environment, env files, NATS context, default. `table` has a row for
each setting. `masking` knows every secret that was found.
"""
