"""Errors as messages on the page."""

from functools import wraps

import gradio as gr

from miniclip.utils.errors import UserError

MAX_MESSAGE_LENGTH = 500


def on_page(function):
    """Decorate a callback: errors that a user can fix become messages, without a traceback in the log."""

    @wraps(function)
    def wrapper(*args, **kwargs):
        try:
            return function(*args, **kwargs)
        except (UserError, ValueError, TypeError) as error:  # the last two come from the classifier
            raise message(str(error)) from error

    return wrapper


def message(text: str) -> gr.Error:
    """A message that the page shows as text. Gradio renders messages as HTML, and `text` may quote the user."""
    text = text[:MAX_MESSAGE_LENGTH].replace("<", "‹").replace(">", "›")
    return gr.Error(text, duration=12, print_exception=False)
