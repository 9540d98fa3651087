"""The options of `burstscale load` reach the settings that have a field of their name."""

import inspect
from dataclasses import fields

from loadgen.selection import Selection
from testbed.cli_load import load_command
from testbed.client_settings import ClientSettings
from testbed.load import LoadSettings
from testbed.replay_settings import ReplaySettings

# What the command makes something else of, and the options that go nowhere but into the search for the knee.
READ = {"traffic", "out", "prompts", "tokenizer", "exports"}
KNEE = {"find_knee", "knee_attainment", "knee_from", "knee_step_s"}


def test_each_option_is_a_field_of_one_of_the_settings() -> None:
    options = set(inspect.signature(load_command).parameters) - READ - KNEE
    filled = [set(model.model_fields) for model in (Selection, ReplaySettings, ClientSettings)]
    filled.append({field.name for field in fields(LoadSettings)} - {"prompts", "selection", "replay", "client"})
    assert set().union(*filled) == options
    assert sum(map(len, filled)) == len(options)
