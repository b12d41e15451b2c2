"""The command `publish`, as its options ask for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from crypto_trigger.run import Run


def publish(
    run: Run,
    *,
    env_file: str | None = None,
    force: bool = False,
    dry_run: bool = False,
    as_json: bool = False,
    quiet: bool = False,
    verbose: bool = False,
    **flags: str | None,
) -> None:
    """Deliver the trigger of this slot. Raises a TriggerError: ConfigError, NotDelivered or Interrupted."""
    output = run.begin(as_json=as_json, quiet=quiet, verbose=verbose, reports=True, monitored=not dry_run)
    settings = run.load(env_file, **flags)
    draft = run.draft_trigger(settings, force=force, offline=dry_run)
    if dry_run:
        from crypto_trigger.brokers.access import Access

        Access.from_settings(settings)  # a publish loads and checks these before it connects
        draft.fix(None)
        run.dry_run(settings)
        return
    from crypto_trigger.brokers import publisher
    from crypto_trigger.delivery import deliver
    from crypto_trigger.retry import Limits, complete

    deliverer = publisher(settings)
    limits = Limits.from_settings(settings, run.reading, run.kept)
    receipt = complete(deliver(draft, deliverer, limits, output.waiting))
    guard = f"; guard: {receipt.guard}" if receipt.guard else ""
    output.detail(f"{receipt.server} answered attempt {receipt.attempts}{guard}")
    run.succeed(receipt)
