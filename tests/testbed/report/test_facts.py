"""What a report says of the load generator itself."""

from testbed.report.facts import describe_client


def test_the_load_generator_says_how_late_it_was_and_what_it_took() -> None:
    client = {"cpu_s": 6.0, "cpu_ms_per_request": 0.5124, "busiest_fraction": 0.1249}
    assert describe_client(client, 0.0014) == (
        "the load generator sent 99 % of the requests within 1.4 ms of their instants, for 0.51 ms of processor time "
        "each; its busiest process took 12 % of a processor"
    )


def test_where_nothing_was_sent_no_request_has_a_cost() -> None:
    client = {"cpu_s": 0.1, "cpu_ms_per_request": None, "busiest_fraction": 0.02}
    assert (
        describe_client(client, None) == "the load generator sent nothing; its busiest process took 2 % of a processor"
    )
