from django.contrib.auth.models import AbstractUser
from django.db import models


class User(AbstractUser):
    """A person who signs in. Teams are Django's groups."""

    instructions = models.TextField(blank=True, help_text="Sent with every message of every conversation of theirs.")
    single_keys = models.BooleanField(default=True, help_text="Whether ? and / do something on their own.")
