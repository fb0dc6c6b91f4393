"""Errors that a user can fix: one line that names the remedy, instead of a traceback."""

import functools
import sys


class UserError(Exception):
    """The user's input or machine is at fault. The message says what to do about it."""


def exit_on_user_error(main):
    """Decorate a script's `main`: a [`UserError`] prints one line on stderr and exits with status 2."""

    @functools.wraps(main)
    def wrapper(*args, **kwargs):
        try:
            return main(*args, **kwargs)
        except UserError as error:
            print(f"error: {error}", file=sys.stderr, flush=True)
            sys.exit(2)

    return wrapper
