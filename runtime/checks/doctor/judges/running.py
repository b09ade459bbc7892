"""What runs: services, their certificates, the swarm, and a token through all stages."""

from collections.abc import Iterator
from typing import Any

from runtime.checks.doctor.asked import Moment
from runtime.checks.doctor.catalogue import RENEWAL, SERVICES, SWARM, TOKEN
from runtime.checks.doctor.finding import Finding
from runtime.checks.doctor.judges.context import Context
from runtime.checks.doctor.seen import Answer

_LOGS = "./fleet service logs --limit {host}"


def renewal(context: Context) -> Iterator[Finding]:
    """Judge the certificates by what the authority knows of them."""
    for stage in context.plan.stages:
        if not stage.certificate_sha256:
            yield context.skipped(RENEWAL, "it has no certificate yet", stage.name)
        elif stage.renewal_due:
            yield context.warn(
                RENEWAL, "its certificate ends soon", "./fleet deploy renews it", stage.name
            )
        else:
            yield context.ok(RENEWAL, "its certificate is valid for a while", stage.name)


def services(context: Context) -> Iterator[Finding]:
    """Judge whether the installed services run."""
    if context.moment is Moment.BEFORE:
        return
    found = context.seen.services or {}
    logs = _LOGS.format(host=context.host)
    for stage in context.plan.stages:
        service = found.get(stage.unit)
        if service is None:
            yield context.skipped(SERVICES, "not deployed here", stage.name)
            continue
        restarts = f", restarted {service.restarts} times" if service.restarts != "0" else ""
        evidence = f"{stage.unit} is {service.state} ({service.detail}{restarts})"
        if service.state == "active":
            yield context.ok(SERVICES, evidence, stage.name)
        elif service.state in ("activating", "reloading"):
            yield context.warn(SERVICES, evidence, f"wait, or see what it does: {logs}", stage.name)
        else:
            remedy = f"see why: {logs}; then ./fleet service start --limit {context.host}"
            yield context.fail(SERVICES, evidence, remedy, stage.name)


def swarm(context: Context) -> Iterator[Finding]:
    """Judge what stage 0 sees in the DHT."""
    answer = _answer(context, context.seen.swarm)
    if isinstance(answer, str):
        yield context.skipped(SWARM, answer)
        return
    found = _first(answer)
    if answer.problem or "servers" not in found:
        yield _unanswered(context, answer)
        return
    servers = found["servers"]
    evidence = f"{len(servers)} servers"
    missing = found.get("missing", ())
    for each in missing:
        blocks = each["blocks"]
        yield context.fail(
            SWARM,
            f"nobody serves blocks [{blocks['start']}, {blocks['end']})",
            each["help"],
            f"blocks {blocks['start']}",
        )
    for each in found.get("remarks", ()):
        yield context.warn(SWARM, each["problem"], each["hint"], each["peer_id"])
    if not missing and found.get("complete"):
        yield context.ok(SWARM, f"{evidence}, every block is served")
    elif not missing:
        yield context.fail(
            SWARM,
            f"{evidence}, and the model is not complete",
            "./fleet swarm shows what is missing",
        )


def token(context: Context) -> Iterator[Finding]:
    """Judge whether a token comes through all stages."""
    answer = _answer(context, context.seen.token)
    if isinstance(answer, str):
        yield context.skipped(TOKEN, answer)
        return
    events = {each.get("event"): each for each in answer.objects}
    if answer.problem or "end" not in events:
        error = events.get("error", _first(answer))
        said = answer.problem or error.get("message", "no token came")
        hint = error.get("hint") or _LOGS.format(host=context.host)
        yield context.fail(TOKEN, f"no token: {said}", hint)
        return
    route = events.get("route", {}).get("route", ())
    ids = events["end"]["token_ids"]
    yield context.ok(TOKEN, f"token {ids[0]} over {len(route)} stages in {answer.seconds:.2f} s")


def _answer(context: Context, answer: Answer | None) -> Answer | str:
    """Return what stage 0 said, or why it was not asked."""
    service = next(
        (
            found
            for stage in context.plan.stages
            if stage.name == "stage-0"
            for found in ((context.seen.services or {}).get(stage.unit),)
        ),
        None,
    )
    if service is None:
        return "stage 0 is not deployed"
    if service.state != "active":
        return f"stage 0 is {service.state}"
    return answer if answer is not None else "it was not asked"


def _unanswered(context: Context, answer: Answer) -> Finding:
    said = answer.problem or _first(answer).get("message", "an answer that is no report")
    return context.fail(
        SWARM, f"stage 0 says: {said}", f"see why: {_LOGS.format(host=context.host)}"
    )


def _first(answer: Answer) -> dict[str, Any]:
    return answer.objects[0] if answer.objects else {}
