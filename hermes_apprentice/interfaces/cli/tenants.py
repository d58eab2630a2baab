"""Commands about those who share the sidecar."""

from __future__ import annotations

import time

import typer

from hermes_apprentice.domain.money import MICRO, dollars
from hermes_apprentice.domain.tenant import IssuedKey, Limits, Use
from hermes_apprentice.errors import TenantError
from hermes_apprentice.interfaces.cli.console import Json, day, opened, print_json
from hermes_apprentice.interfaces.install.isolating import hint_about_hermes, hint_about_the_tab
from hermes_apprentice.ledger.tenant_accounts import tenant_accounts
from hermes_apprentice.storage.tenants import TenantStore
from hermes_apprentice.terminal import print_table

app = typer.Typer(
    help="Those who share the sidecar: their keys, their limits, their patterns.",
    no_args_is_help=False,
)

_Rate = typer.Option(None, "--per-minute", min=1, help="Requests per minute on average.")
_Burst = typer.Option(None, "--burst", min=1, help="Requests at once; else a quarter of the rate.")
_DailyRequests = typer.Option(None, "--daily-requests", min=0, help="Requests per day (UTC).")
_MonthlyRequests = typer.Option(None, "--monthly-requests", min=0, help="Requests per month.")
_DailyTokens = typer.Option(None, "--daily-tokens", min=0, help="The upstream's tokens per day.")
_MonthlyTokens = typer.Option(None, "--monthly-tokens", min=0, help="The same per month.")
_Budget = typer.Option(
    None, "--budget", min=0, max=1e9, help="Dollars that the upstream may charge per month."
)
_Grace = typer.Option(0.0, "--grace-hours", min=0, help="How long older keys still count.")
_Yes = typer.Option(False, "--yes", help="Do not ask.")
_Tenant = typer.Argument("", help="The tenant.")
_Everybody = typer.Option(False, "--everybody", help="Instead of one tenant.")
_Name = typer.Argument(help="The tenant.")


@app.callback(invoke_without_command=True)
def default(context: typer.Context, as_json: bool = Json) -> None:
    """List the tenants."""
    if context.invoked_subcommand is None:
        list_(as_json)


@app.command("list")
def list_(as_json: bool = Json) -> None:
    """List the tenants, what they used and what they may use."""
    with opened() as (_, database, _):
        found = tenant_accounts(database, time.time())
    if as_json:
        print_json(found)
        return
    print_table(
        "Tenants",
        ("tenant", "today", "this month", "limits", "keys", "own patterns", "profiles", "since"),
        [
            (
                one.tenant.name,
                _used(one.today),
                _used(one.month),
                "revoked" if one.tenant.revoked_at else _limits(one.tenant.limits),
                ", ".join(one.keys) or "none",
                ", ".join(one.patterns) or "-",
                ", ".join(one.profiles) or "-",
                day(one.tenant.created_at),
            )
            for one in found
        ],
    )


@app.command()
def create(
    name: str = typer.Argument(help="Small letters, digits and hyphens."),
    per_minute: int | None = _Rate,
    burst: int | None = _Burst,
    daily_requests: int | None = _DailyRequests,
    monthly_requests: int | None = _MonthlyRequests,
    daily_tokens: int | None = _DailyTokens,
    monthly_tokens: int | None = _MonthlyTokens,
    budget: float | None = _Budget,
    as_json: bool = Json,
) -> None:
    """Make a tenant and show its key, once; from the first one on, every request needs a key."""
    limits = Limits(
        per_minute=per_minute,
        burst=burst,
        daily_requests=daily_requests,
        monthly_requests=monthly_requests,
        daily_tokens=daily_tokens,
        monthly_tokens=monthly_tokens,
        monthly_budget=None if budget is None else round(budget * MICRO),
    )
    with opened() as (settings, database, _):
        key = TenantStore(database).create(name, limits, time.time())
        hint = hint_about_hermes(settings)
    _show(key, name, as_json)
    if hint:
        typer.echo(hint, err=True)


@app.command()
def limit(
    name: str = _Name,
    per_minute: int | None = _Rate,
    burst: int | None = _Burst,
    daily_requests: int | None = _DailyRequests,
    monthly_requests: int | None = _MonthlyRequests,
    daily_tokens: int | None = _DailyTokens,
    monthly_tokens: int | None = _MonthlyTokens,
    budget: float | None = _Budget,
    lift: list[str] = typer.Option([], help="A limit that ends, such as budget; may be repeated."),
) -> None:
    """Change a tenant's limits; those that are not named stay."""
    changes = {
        "per_minute": per_minute,
        "burst": burst,
        "daily_requests": daily_requests,
        "monthly_requests": monthly_requests,
        "daily_tokens": daily_tokens,
        "monthly_tokens": monthly_tokens,
        "monthly_budget": None if budget is None else round(budget * MICRO),
    }
    lifted = ["monthly_budget" if one == "budget" else one.replace("-", "_") for one in lift]
    with opened() as (_, database, _):
        limits = TenantStore(database).change(name, changes, lifted)
    typer.echo(f"'{name}' may use: {_limits(limits)}.")


@app.command()
def rotate(name: str = _Name, grace_hours: float = _Grace, as_json: bool = Json) -> None:
    """Give a tenant a new key and show it, once; its older keys end."""
    with opened() as (_, database, _):
        key = TenantStore(database).rotate(name, time.time(), grace_hours * 3_600)
    _show(key, name, as_json)


@app.command("admin-key")
def admin_key(grace_hours: float = _Grace, as_json: bool = Json) -> None:
    """Make the operator's key for the admin endpoints and show it, once."""
    with opened() as (settings, database, _):
        key = TenantStore(database).rotate_admin(time.time(), grace_hours * 3_600)
        hint = hint_about_the_tab(settings)
    _show(key, None, as_json)
    if hint:
        typer.echo(hint, err=True)


@app.command()
def revoke(name: str = _Name, yes: bool = _Yes) -> None:
    """End a tenant's keys; its patterns stay hidden from others."""
    if not yes:
        typer.confirm(f"Turn '{name}' away from now on?", abort=True)
    with opened() as (_, database, _):
        TenantStore(database).revoke(name, time.time())
    typer.echo(f"'{name}' is turned away, within a second where the sidecar runs.")


@app.command()
def delete(name: str = _Name, yes: bool = _Yes) -> None:
    """Forget a revoked tenant; after the last one, requests need no key any more."""
    if not yes:
        typer.confirm(f"Forget '{name}'?", abort=True)
    with opened() as (_, database, _):
        store = TenantStore(database)
        store.delete(name)
        left = store.directory().tenants
    typer.echo(f"'{name}' is forgotten; its ledger stays.")
    if not left:
        typer.echo("There are no tenants any more: requests from this machine need no key.")


@app.command()
def assign(
    pattern: str = typer.Argument(help="A candidate such as gc-7f3a, or a specialist's name."),
    tenant: str = _Tenant,
    everybody: bool = _Everybody,
) -> None:
    """Give a pattern to one tenant, so that it does not exist for the others; or to everybody."""
    _check_one(tenant, everybody)
    with opened() as (_, database, _):
        slug = TenantStore(database).assign(pattern, tenant or None)
    typer.echo(f"'{slug}' is seen by {'everybody' if everybody else repr(tenant)} from now on.")


@app.command()
def profile(
    name: str = typer.Argument(help="A profile of Hermes, such as default."),
    tenant: str = _Tenant,
    everybody: bool = _Everybody,
) -> None:
    """Say whose sessions a Hermes profile holds: new candidates out of them are that tenant's."""
    _check_one(tenant, everybody)
    with opened() as (_, database, _):
        TenantStore(database).map_profile(name, tenant or None)
    whose = "everybody's" if everybody else f"seen by '{tenant}' only"
    typer.echo(f"New candidates from the sessions of '{name}' are {whose}.")


def _check_one(tenant: str, everybody: bool) -> None:
    if bool(tenant) == everybody:
        raise TenantError("Name a tenant, or say --everybody.")


def _show(key: IssuedKey, name: str | None, as_json: bool) -> None:
    if as_json:
        print_json({"tenant": name, "key_id": key.key_id, "key": key.text})
        return
    typer.echo(key.text)
    whose = f"the key of '{name}'" if name is not None else "the operator's key"
    typer.echo(
        f"This is {whose}, shown this once; only its hash is kept. "
        "Send it as 'Authorization: Bearer ...'.",
        err=True,
    )


def _used(use: Use) -> str:
    return f"{use.requests} requests, {use.tokens} tokens, {dollars(use.cost, 4)}"


def _limits(limits: Limits) -> str:
    parts = []
    if limits.per_minute is not None:
        parts.append(f"{limits.per_minute} a minute ({limits.bucket} at once)")
    for amount, what in (
        (limits.daily_requests, "requests a day"),
        (limits.monthly_requests, "requests a month"),
        (limits.daily_tokens, "tokens a day"),
        (limits.monthly_tokens, "tokens a month"),
    ):
        if amount is not None:
            parts.append(f"{amount} {what}")
    if limits.monthly_budget is not None:
        parts.append(f"{dollars(limits.monthly_budget)} a month")
    return ", ".join(parts) or "without limits"
