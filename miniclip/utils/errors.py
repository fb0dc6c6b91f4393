"""Mistakes a user can mend: one line that names the remedy, instead of a traceback."""

import functools
import sys


class UserError(Exception):
    """Raised where the user's input or machine is at fault; the message says what to do about it."""


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
