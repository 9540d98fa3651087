"""`burstscale bench`: speeds and closeness, measured on the machine it runs on."""

import typer

bench_app = typer.Typer(name="bench", help="Measure this machine and this program.", no_args_is_help=True)
