"""The command `publish`, as its options ask for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crypto_trigger.errors import ConfigError, Usage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from crypto_trigger.commands.ending import Run


def publish(
    run: Run,
    *,
    env_files: Sequence[str] | None = None,
    force: bool = False,
    dry_run: bool = False,
    rehearse: bool = False,
    as_json: bool = False,
    quiet: bool = False,
    verbose: bool = False,
    **flags: str | None,
) -> None:
    """Deliver the trigger of this slot. Raises a TriggerError: Usage, ConfigError, a BrokerError or Interrupted."""
    output = run.begin(as_json=as_json, quiet=quiet, verbose=verbose)
    if dry_run and rehearse:
        raise Usage("--dry-run connects to nothing, and --rehearse connects: give one of the two")
    settings = run.load(env_files, **flags)
    try:
        draft = run.draft_trigger(settings, force=force, offline=dry_run)
    except ConfigError as error:
        from crypto_trigger.connection.credentials import problems_of

        raise ConfigError(*error.problems, *problems_of(settings)) from None
    if dry_run:
        from crypto_trigger.connection.credentials import Access

        Access.from_settings(settings)  # a publish loads and checks these before it connects
        draft.fix(None)
        run.dry_run(settings)
        return
    from crypto_trigger.deadline.retry import complete
    from crypto_trigger.delivery import choice, deliver

    if rehearse:
        rehearsed = choice.rehearsal(settings)
        receipt = complete(deliver.rehearse(draft, rehearsed, run.limits(settings), output.waiting))
        output.detail(deliver.accepted(settings, receipt))
    else:
        publisher = choice.publisher(settings)
        receipt = complete(deliver.deliver(draft, publisher, run.limits(settings), output.waiting))
    guard = f"; guard: {receipt.guard}" if receipt.guard else ""
    output.detail(f"{receipt.server} answered attempt {receipt.attempts}{guard}")
    run.succeed(receipt)
