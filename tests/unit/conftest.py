"""What holds for every unit test."""

from hypothesis import settings

# how long an example takes says something of the machine, not of the code
settings.register_profile("steady", deadline=None)
settings.load_profile("steady")
