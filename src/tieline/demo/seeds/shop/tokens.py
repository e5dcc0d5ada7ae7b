# mypy: ignore-errors
"""The back office API accepts `Authorization: Bearer TOKEN`."""

from rest_framework.authentication import TokenAuthentication


class BearerAuthentication(TokenAuthentication):
    """Django REST framework's token, under the scheme's usual name."""

    keyword = "Bearer"
