"""Every block of code in README.md and docs is run by a test: the tests are listed here, and exist."""

import ast

import pytest
from support.pages import PAGES, blocks
from support.shell import ROOT, do

CI = ".ci/run"
README = "tests/deploy/test_readme.py"
SHOWN = "tests/deploy/test_docs.py::test_what_a_page_shows_of_a_terminal_is_what_the_program_says"
CHECK = "tests/deploy/test_check_page.py"
USERS = "tests/deploy/test_check_users.py"
KUBERNETES = "tests/deploy/test_kubernetes.py"
STORY = (
    "tests/interop/test_deliveries_page.py"
    "::test_the_three_steps_from_the_node_worker_to_jetstream_are_as_the_page_shows_them"
)
LISTEN = "tests/broker/test_listen_page.py"
LISTENS = f"{LISTEN}::test_what_the_page_shows_of_a_terminal_is_what_the_program_says"
COMPLETION = "tests/interop/test_completion.py"
REHEARSAL = "tests/broker/test_rehearsal_page.py"
SYSTEMD = "tests/deploy/test_systemd.py"
SCHEDULES = "tests/interop/test_schedules_page.py"
BUILD = "docker build --tag registry.example.com/crypto-trigger:0.1.0 ."
PROPERTY = "tests/deploy/test_blocks.py::test_elastic_beanstalk_is_told_of_the_property_that_the_hook_reads"
MONITORING = "tests/deploy/test_monitoring_page.py"

# For each page, how each of its blocks begins, and the test that runs it.
RUN = {
    "README.md": {
        "python3 -m venv .venv && .venv/bin/pip install -q '.[demo]'": CI,
        "python3 -m venv .venv && .venv/bin/pip install -q -e '.[test]'": CI,
        "python3 -m venv /opt/crypto-trigger": f"{README}"
        "::test_the_last_line_of_the_installation_puts_the_program_on_path",
        "pipx install .": "tests/deploy/test_installs.py"
        "::test_a_tool_installs_the_program_and_the_demo_says_how_to_add_a_server",
        "$ export NATS_URL=": f"{README}::test_what_readme_shows_of_your_own_nats_is_what_the_program_says",
    },
    "docs/check.md": {
        "$ crypto-trigger publish": f"{CHECK}::test_what_the_page_shows_of_a_terminal_is_what_the_program_says",
        "TRIGGER CRITICAL - missed": f"{CHECK}::test_the_lines_about_what_is_missing_are_those_of_the_program",
        "TRIGGER OK - ": f"{CHECK}::test_the_line_about_what_is_not_known_is_that_of_the_program",
        "crypto-trigger check --on-change": f"{CHECK}::test_one_message_per_incident",
        "define command {": f"{CHECK}::test_the_command_of_nagios_and_the_one_of_icinga",
        "object CheckCommand": f"{CHECK}::test_the_command_of_nagios_and_the_one_of_icinga",
        "usermod": f"{USERS}::test_the_user_of_a_monitoring_system_reads_the_env_file",
        "chgrp nagios": f"{USERS}::test_the_user_of_a_monitoring_system_reads_the_env_file",
        "chgrp crypto-trigger": f"{USERS}::test_the_user_of_cron_writes_where_debian_s_node_exporter_reads",
        "readinessProbe:": f"{CHECK}::test_the_probe_of_kubernetes",
        "* * * * * /opt/crypto-trigger/bin/crypto-trigger check": f"{CHECK}::test_the_file_of_the_textfile_collector",
    },
    "docs/command-line.md": {
        "mkdir -p ~/.local/share/bash-completion": f"{COMPLETION}::test_tab_completes_commands_and_options",
        "_CRYPTO_TRIGGER_COMPLETE=source_zsh": f"{COMPLETION}::test_tab_completes_commands_and_options",
        "mkdir -p ~/.config/fish": f"{COMPLETION}::test_fish_completes_commands_and_options",
        "$ crypto-trigger publish -v": SHOWN,
    },
    "docs/deliveries.md": {
        "$ crypto-trigger publish --delivery core": SHOWN,
        "nats-streaming-server -cid": STORY,
        "export NATS_URL=": STORY,
        "$ crypto-trigger publish --dry-run": STORY,
        "$ crypto-trigger publish\n": STORY,
        '{"ready":true}': STORY,
        "kill %1": STORY,
        "$ crypto-trigger setup": STORY,
        "$ node tests/interop/node/jetstream_consumer.mjs": STORY,
        "export CRYPTO_TRIGGER_DELIVERY=": STORY,
    },
    "docs/faults.md": {"$ crypto-trigger publish --stream other": SHOWN},
    "docs/guarantees.md": {
        "$ faketime": SHOWN,
        "$ crypto-trigger publish --scheduled-at": SHOWN,
        "crypto-trigger: warning: the server's clock went back": "tests/broker/test_clock_back.py"
        "::test_a_message_of_the_server_s_future_keeps_no_slot_from_its_trigger",
    },
    "docs/history.md": {
        "$ crypto-trigger history": "tests/deploy/test_history_page.py"
        "::test_what_the_page_shows_of_a_terminal_is_what_the_program_says",
    },
    "docs/kubernetes.md": {
        "docker build": f"{KUBERNETES}::test_the_example_of_an_overlay_sets_image_namespace_and_settings",
        "kubectl apply": f"{KUBERNETES}::test_the_example_of_an_overlay_sets_image_namespace_and_settings",
        "kubectl -n prices create job": f"{KUBERNETES}::test_a_job_by_hand_stands_for_the_present_slot",
        "kubectl -n prices describe": f"{KUBERNETES}::test_kubectl_knows_every_command_of_the_page",
    },
    "docs/listen.md": {
        "$ crypto-trigger publish": LISTENS,
        "crypto-trigger listen --count 1": f"{LISTEN}"
        "::test_the_smoke_test_sees_the_trigger_though_publish_starts_at_once",
        "crypto-trigger listen --delivery core": f"{LISTEN}::test_the_smoke_test_of_core_waits_for_the_listener",
        "$ crypto-trigger listen --count 2": LISTENS,
        "$ crypto-trigger listen --json": LISTENS,
    },
    "docs/messages.md": {
        "crypto-trigger: 2026-": "tests/deploy/test_docs.py::test_the_line_that_explains_the_page_of_messages_is_one",
    },
    "docs/monitoring.md": {
        "heroku config:set": f"{MONITORING}"
        "::test_a_monitor_of_heroku_is_told_of_a_success_and_of_the_slot_of_a_failure",
        "eb setenv TRIGGER_CHECK_PING_URL=": PROPERTY,
        "*/15 * * * * CRYPTO_TRIGGER_LOG_FORMAT=json": f"{MONITORING}::test_a_log_service_is_sent_the_end_of_every_run",
    },
    "docs/pings-and-logs.md": {
        "$ CRYPTO_TRIGGER_PING_URL=": SHOWN,
        "$ crypto-trigger publish --quiet": SHOWN,
        "$ CRYPTO_TRIGGER_LOG_FORMAT=json": SHOWN,
        "7-59/15 * * * * said=": "tests/deploy/test_pings_page.py::test_check_pings_what_is_wrong_or_nothing",
        "7-59/15 * * * * /opt": "tests/deploy/test_pings_page.py::test_check_pings_what_is_wrong_or_nothing",
        "{ crypto-trigger publish": "tests/deploy/test_pings_page.py::test_the_line_for_syslog_sends_each_object_whole",
    },
    "docs/rehearsal.md": {
        "$ crypto-trigger publish --rehearse": f"{REHEARSAL}"
        "::test_what_the_page_shows_of_a_terminal_is_what_the_program_says",
        "crypto-trigger setup --dry-run": f"{REHEARSAL}"
        "::test_the_script_fails_before_the_stream_is_there_and_passes_then_and_stores_nothing",
    },
    "docs/report.md": {"$ crypto-trigger publish --json": SHOWN},
    "docs/scheduling.md": {
        "useradd": "tests/deploy/test_crontab.py"
        "::test_debian_s_cron_runs_the_example_as_the_page_installs_it_and_mails_nothing",
        "runuser": "tests/deploy/test_crontab.py"
        "::test_debian_s_cron_runs_the_example_as_the_page_installs_it_and_mails_nothing",
        f"{BUILD}\n": "tests/deploy/test_image.py::test_the_pages_commands_build_the_image_and_run_it",
        "heroku create": "tests/deploy/test_heroku.py::test_the_commands_of_the_page_set_up_the_stream_from_a_dyno",
        "install -m 0600 .env.example": f"{SYSTEMD}"
        "::test_the_timer_catches_up_on_a_slot_and_the_next_run_in_it_is_a_duplicate",
        "[Service]": f"{SYSTEMD}::test_the_program_writes_nowhere_but_where_an_operator_lets_it",
        "# crypto-trigger.timer": f"{SYSTEMD}::test_slots_of_an_hour",
        "# crypto-trigger-check.timer": f"{SYSTEMD}::test_slots_of_an_hour",
        "# crypto-trigger.service": f"{SYSTEMD}::test_slots_of_an_hour",
        "rm -rf ../api/crypto-trigger": "tests/deploy/test_elastic_beanstalk.py"
        "::test_each_deployment_leaves_one_timer_with_the_properties_of_the_environment",
        "nats stream edit": f"{SCHEDULES}::test_the_recipe_fires_and_the_stand_by_fills_the_slots_after_it_was_ended",
        "2,17,32,47 ": f"{SCHEDULES}::test_the_stand_by_runs_two_minutes_after_each_slot_begins",
        "crypto-trigger publish & crypto-trigger publish": "tests/deploy/test_many_at_once.py"
        "::test_the_commands_of_the_page",
    },
    "docs/setup.md": {
        "$ crypto-trigger setup --dry-run": "tests/broker/test_setup_limits.py"
        "::test_the_page_about_setup_shows_what_it_says",
        "$ crypto-trigger setup --stream orders": "tests/broker/test_shared_streams.py"
        "::test_the_page_about_setup_shows_what_it_says",
    },
}


@pytest.mark.parametrize("page", PAGES)
def test_every_block_of_a_page_is_run_by_a_test(page):
    starts = RUN.get(page, {})
    found = [[start for start in starts if block.text.startswith(start)] for block in blocks(page)]
    unlisted = [block.first for block, listed in zip(blocks(page), found, strict=True) if not listed]
    assert unlisted == [], "no test is listed for these blocks; list it in RUN above"
    assert set(starts) == {start for listed in found for start in listed}, "these are listed and not there"


def names_of_tests(path):
    """The names of the tests in a file."""
    return {node.name for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize(("page", "listed"), [(page, test) for page in RUN for test in sorted({*RUN[page].values()})])
def test_the_tests_that_are_listed_exist_and_are_about_their_page(page, listed):
    path, _, name = listed.partition("::")
    source = (ROOT / path).read_text()
    assert page.rpartition("/")[2] in source
    assert not name or name in names_of_tests(ROOT / path)


def test_elastic_beanstalk_is_told_of_the_property_that_the_hook_reads(tmp_path):
    """`eb` needs an account, so that it is one that does nothing."""
    program = tmp_path / "eb"
    program.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    program.chmod(0o755)
    (found,) = (block for block in blocks("docs/monitoring.md") if block.first.startswith("eb "))
    ended = do("sh", "-euc", found.text, env={"PATH": f"{tmp_path}:/usr/bin:/bin"})
    assert (ended.status, ended.err) == (0, "")
    command, *properties = ended.out.splitlines()
    assert command == "setenv"
    hooks = "".join(path.read_text() for path in (ROOT / "deploy/elastic-beanstalk").rglob("*.sh"))
    for each in properties:
        name, _, value = each.partition("=")
        assert name in hooks
        assert value.startswith("https://")
