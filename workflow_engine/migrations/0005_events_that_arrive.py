import django.db.models.deletion
from django.db import migrations, models

from workflow_engine.models.tuning import tune_events, untune_events


class Migration(migrations.Migration):
    dependencies = [
        ("workflow_engine", "0004_bulk_operations"),
    ]

    operations = [
        migrations.CreateModel(
            name="DeadLetter",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("sequence", models.PositiveIntegerField(verbose_name="event")),
                ("type", models.CharField(max_length=50, verbose_name="type")),
                ("subscriber", models.CharField(max_length=200, verbose_name="subscriber")),
                ("tries", models.PositiveIntegerField(verbose_name="tries")),
                ("error", models.TextField(verbose_name="last error")),
                ("died_at", models.DateTimeField(verbose_name="given up at")),
                ("replay_at", models.DateTimeField(blank=True, null=True, verbose_name="to be replayed at")),
                ("token", models.PositiveBigIntegerField(db_default=0, default=0, verbose_name="token")),
            ],
            options={
                "verbose_name": "dead letter",
                "verbose_name_plural": "dead letters",
                "permissions": (("replay_deadletter", "Can have dead letters delivered again"),),
                "default_permissions": ("view",),
            },
        ),
        migrations.CreateModel(
            name="EventCursor",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("subscriber", models.CharField(max_length=200, verbose_name="subscriber")),
                ("last_sequence", models.PositiveIntegerField(verbose_name="heard of")),
                ("target", models.PositiveIntegerField(verbose_name="up to")),
                ("due_at", models.DateTimeField(verbose_name="due at")),
                ("token", models.PositiveBigIntegerField(db_default=0, default=0, verbose_name="token")),
                ("tries", models.PositiveIntegerField(db_default=0, default=0, verbose_name="tries")),
                (
                    "error",
                    models.TextField(blank=True, db_default=models.Value(""), default="", verbose_name="last error"),
                ),
            ],
            options={
                "verbose_name": "delivery",
                "verbose_name_plural": "deliveries",
                "default_permissions": ("view",),
            },
        ),
        migrations.AddField(
            model_name="outboxevent",
            name="pending",
            field=models.BooleanField(db_default=False, default=False, editable=False, verbose_name="to be handed on"),
        ),
        migrations.AddIndex(
            model_name="outboxevent",
            index=models.Index(condition=models.Q(("pending", True)), fields=["id"], name="wfe_event_pending"),
        ),
        migrations.AddField(
            model_name="deadletter",
            name="run",
            field=models.ForeignKey(
                db_constraint=False,
                db_index=False,
                on_delete=django.db.models.deletion.CASCADE,
                related_name="dead_letters",
                to="workflow_engine.workflowrun",
            ),
        ),
        migrations.AddField(
            model_name="eventcursor",
            name="run",
            field=models.ForeignKey(
                db_constraint=False,
                db_index=False,
                on_delete=django.db.models.deletion.CASCADE,
                related_name="event_cursors",
                to="workflow_engine.workflowrun",
            ),
        ),
        migrations.AddIndex(
            model_name="deadletter",
            index=models.Index(fields=["subscriber", "replay_at"], name="wfe_dead_letter_replay"),
        ),
        migrations.AddConstraint(
            model_name="deadletter",
            constraint=models.UniqueConstraint(fields=("run", "sequence", "subscriber"), name="wfe_dead_letter_once"),
        ),
        migrations.AddIndex(
            model_name="eventcursor",
            index=models.Index(fields=["subscriber", "due_at", "id"], name="wfe_cursor_due"),
        ),
        migrations.AddConstraint(
            model_name="eventcursor",
            constraint=models.UniqueConstraint(fields=("run", "subscriber"), name="wfe_cursor_once"),
        ),
        migrations.RunPython(tune_events, untune_events, atomic=False),
    ]
