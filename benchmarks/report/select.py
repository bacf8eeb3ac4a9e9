"""Which records a plot shows: the latest of each configuration, the best ones first, the Pareto front."""

from collections.abc import Sequence

from facekd.schemas.record import Record

Key = tuple[str, str, str, str, str, int, int]


def key_of(record: Record) -> Key:
    """What makes two records measurements of the same thing, at different times."""
    setup = record.setup
    model = record.model
    return (record.device.id, model.name, model.target, setup.runtime, setup.provider, setup.threads, setup.batch)


def label_of(record: Record) -> str:
    """For legends; the provider stands for the runtime where one runtime has several, as on phones."""
    setup = record.setup
    batch = f", batch {setup.batch}" if setup.batch > 1 else ""
    plain = record.device.kind == "host" and setup.runtime != "coreml"
    runtime = setup.runtime if plain else f"{setup.runtime} {setup.provider}"
    return f"{record.model.name}, {runtime}, {setup.threads} thr{batch}"


def latest(records: Sequence[Record]) -> list[Record]:
    """The newest record of each configuration, fastest first."""
    newest: dict[Key, Record] = {}
    for record in sorted(records, key=lambda r: r.created):
        newest[key_of(record)] = record
    return sorted(newest.values(), key=lambda r: r.latency.p50_ms)


def on_one_set(records: Sequence[Record]) -> list[Record]:
    """Those with an accuracy on the set that most were measured on: accuracies on different sets do not compare."""
    sets = [record.accuracy.fingerprint for record in records if record.accuracy]
    most = max(sets, key=sets.count, default=None)
    return [record for record in records if record.accuracy and record.accuracy.fingerprint == most]


def pareto_front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Indices of the points (cost, gain) that no other beats in both, by rising cost."""
    front: list[int] = []
    best = float("-inf")
    for index in sorted(range(len(points)), key=lambda i: (points[i][0], -points[i][1])):
        if points[index][1] > best:
            best = points[index][1]
            front.append(index)
    return front


def history(records: Sequence[Record]) -> dict[Key, list[Record]]:
    """Configurations measured at more than one commit, each with its newest record of every commit, oldest first."""
    series: dict[Key, dict[str, Record]] = {}
    for record in sorted(records, key=lambda r: r.created):
        commits = series.setdefault(key_of(record), {})
        commit = record.commit or record.created[:10]
        commits.pop(commit, None)
        commits[commit] = record
    return {key: list(commits.values()) for key, commits in series.items() if len(commits) > 1}
