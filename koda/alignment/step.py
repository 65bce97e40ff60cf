"""The alignment step: train, save, embed with what came out, and judge it; kept as an artifact."""

from __future__ import annotations

from datetime import UTC, datetime

from koda._version import __version__
from koda.alignment.evaluation import measure_alignment
from koda.alignment.groups import members_of
from koda.alignment.plan import KIND, AlignmentPlan
from koda.alignment.saving import save_model
from koda.alignment.student import Student
from koda.alignment.training import BEST, STATE, Progress, Trained, train
from koda.alignment.zero_shot import zero_shot_states
from koda.embeddings import EmbeddingTable
from koda.extraction import embedding_key, extract, load_embeddings
from koda.models import ResolvedModel, resolve_model
from koda.records import RECORD_FILE, SEEN_FILE, AlignmentRecord, GroupRecord, SeenSamples, SplitRecord, State
from koda.storage import write_atomically
from koda.storage.digests import digest_keys
from koda.storage.writing import explain_os_errors


def align(plan: AlignmentPlan, progress: Progress | None = None) -> str:
    """Fine-tune the student, save it, and judge it on held-out samples; return the digest of the artifact.

    What was interrupted goes on from its last checkpoint. Two processes never train the same thing twice.

    Args:
        plan: see :func:`koda.alignment.plan_alignment`.
        progress: called with (steps done, steps in all, the look just taken or None).

    Raises:
        TrainingError: the loss diverged, or the student came no nearer to its teacher; no model is kept.
        ModelError: memory does not hold a batch.
        StoreError: the disk is full or read-only.
    """
    store, key = plan.audit.artifacts, plan.key
    with store.lock(KIND, key):
        if store.has(KIND, key):
            return store.digest(KIND, key)
        store.discard_damaged(KIND, key)
        work = store.folder(KIND, key)
        with explain_os_errors(work):
            work.mkdir(parents=True, exist_ok=True)
        started = datetime.now(UTC)
        device = plan.audit.config.discrepancy.device
        resolved = plan.audit.models[plan.student]
        student = Student(resolved, plan.towers, device, plan.config.rank)
        trained = train(student, plan.task, work, progress)
        save_model(plan.folder, resolved, trained.weights)
        record = _record(plan, trained, started, student)
        write_atomically(plan.folder / SEEN_FILE, SeenSamples(seen=plan.seen).to_json().encode())
        write_atomically(plan.folder / RECORD_FILE, record.to_json().encode())
        for name in (STATE, BEST):
            (work / name).unlink(missing_ok=True)
        return store.complete(KIND, key)


def _record(plan: AlignmentPlan, trained: Trained, started: datetime, student: Student) -> AlignmentRecord:
    """Embed the data set with the aligned model, and write down what changed."""
    audit, task = plan.audit, plan.task
    device = audit.config.discrepancy.device
    aligned = resolve_model(plan.model, device)
    extract(audit.artifacts, audit.dataset, aligned, device=device)
    table = load_embeddings(audit.artifacts, embedding_key(audit.dataset, aligned), audit.dataset)
    figures = measure_alignment(task, table, audit.config.significance, device)
    former, teacher = (audit.models[role] for role in (plan.student, plan.teacher))
    models: dict[State, ResolvedModel] = {"before": former, "after": aligned, "teacher": teacher}
    tables: dict[State, EmbeddingTable] = {"before": task.former, "after": table, "teacher": task.teacher}
    zero_shot, changes, gaps = zero_shot_states(audit, plan.groups, plan.split.held_out, models, tables)
    split = plan.split
    return AlignmentRecord(
        id=plan.id,
        audit_id=audit.audit_id,
        data_digest=audit.dataset.digest,
        started=started,
        ended=datetime.now(UTC),
        koda_version=__version__,
        student=audit.label(plan.student),
        teacher=audit.label(plan.teacher),
        student_fingerprint=former.fingerprint.digest,
        teacher_fingerprint=teacher.fingerprint.digest,
        weights_digest=aligned.fingerprint.weights,
        role=plan.student,
        side=plan.side,
        settings=plan.config.model_dump(mode="json"),
        towers=list(plan.towers),
        n_parameters=trained.n_trained,
        n_parameters_total=student.n_total,
        groups=[
            GroupRecord(
                name=group.subset,
                words=list(group.words),
                n_train=len(group.members & set(split.train)),
                n_validation=len(group.members & set(split.validation)),
                n_held_out=len(group.members & set(split.held_out)),
            )
            for group in plan.groups
        ],
        split=SplitRecord(
            n_train=len(split.train),
            n_train_slice=len(members_of(plan.groups) & set(split.train)),
            n_validation=len(split.validation),
            n_held_out=len(split.held_out),
            train_digest=digest_keys(split.train),
            validation_digest=digest_keys(split.validation),
            held_out_digest=digest_keys(split.held_out),
            seen_digest=digest_keys(plan.seen),
            unreadable=trained.unreadable,
        ),
        looks=list(trained.looks),
        kept_step=trained.kept_step,
        stopped=trained.stopped,
        zero_shot=zero_shot,
        zero_shot_changes=changes,
        zero_shot_gaps=gaps,
        materiality=audit.config.significance.materiality,
        alpha=audit.config.significance.alpha,
        device=str(student.encoder.device),
        **vars(figures),
    )
