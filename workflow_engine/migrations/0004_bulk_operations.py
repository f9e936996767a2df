import django.db.models.deletion
from django.db import migrations, models

import workflow_engine.ids
from workflow_engine.models.tuning import tune_bulk, untune_bulk


class Migration(migrations.Migration):
    dependencies = [
        ("workflow_engine", "0003_maps_and_child_runs"),
    ]

    operations = [
        migrations.CreateModel(
            name="BulkOperation",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=workflow_engine.ids.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                (
                    "kind",
                    models.CharField(
                        choices=[("cancel", "Cancel"), ("pause", "Pause"), ("resume", "Resume"), ("rerun", "Rerun")],
                        max_length=8,
                        verbose_name="kind",
                    ),
                ),
                ("arguments", models.JSONField(default=dict, verbose_name="arguments")),
                ("actor", models.CharField(default="", max_length=150, verbose_name="actor")),
                (
                    "status",
                    models.CharField(
                        choices=[
                            ("PENDING", "Pending"),
                            ("RUNNING", "Running"),
                            ("COMPLETED", "Completed"),
                            ("CANCELLED", "Cancelled"),
                        ],
                        default="PENDING",
                        max_length=16,
                        verbose_name="status",
                    ),
                ),
                ("total", models.PositiveIntegerField(default=0, verbose_name="runs")),
                ("changed", models.PositiveIntegerField(default=0, verbose_name="changed")),
                ("unchanged", models.PositiveIntegerField(default=0, verbose_name="unchanged")),
                ("failed", models.PositiveIntegerField(default=0, verbose_name="failed")),
                ("created_at", models.DateTimeField(verbose_name="created at")),
                ("started_at", models.DateTimeField(null=True, verbose_name="started at")),
                ("finished_at", models.DateTimeField(null=True, verbose_name="finished at")),
                ("counted_at", models.DateTimeField(editable=False, null=True)),
            ],
            options={
                "verbose_name": "bulk operation",
                "verbose_name_plural": "bulk operations",
                "default_permissions": ("view",),
                "indexes": [
                    models.Index(
                        condition=models.Q(("status__in", ("PENDING", "RUNNING"))),
                        fields=["id"],
                        name="wfe_bulk_under_way",
                    )
                ],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(("kind__in", ["cancel", "pause", "resume", "rerun"])),
                        name="wfe_bulk_kind_known",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("status__in", ["PENDING", "RUNNING", "COMPLETED", "CANCELLED"])),
                        name="wfe_bulk_status_known",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="BulkTarget",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("run_id", models.UUIDField(verbose_name="run")),
                (
                    "outcome",
                    models.CharField(
                        choices=[
                            ("open", "Not done yet"),
                            ("changed", "Changed"),
                            ("unchanged", "Nothing to change"),
                            ("failed", "Failed"),
                            ("cancelled", "Left out: the operation was cancelled"),
                        ],
                        db_default="open",
                        default="open",
                        max_length=16,
                        verbose_name="outcome",
                    ),
                ),
                ("message", models.TextField(default="", verbose_name="message")),
                ("taken_until", models.DateTimeField(editable=False, null=True)),
                (
                    "operation",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="targets",
                        to="workflow_engine.bulkoperation",
                    ),
                ),
            ],
            options={
                "verbose_name": "run of a bulk operation",
                "verbose_name_plural": "runs of bulk operations",
                "default_permissions": ("view",),
                "indexes": [
                    models.Index(
                        condition=models.Q(("outcome", "open")), fields=["operation", "id"], name="wfe_bulk_target_open"
                    ),
                    models.Index(
                        condition=models.Q(("outcome", "failed")),
                        fields=["operation", "id"],
                        name="wfe_bulk_target_failed",
                    ),
                ],
                "constraints": [
                    models.UniqueConstraint(fields=("operation", "run_id"), name="wfe_bulk_target_once"),
                    models.CheckConstraint(
                        condition=models.Q(("outcome__in", ["open", "changed", "unchanged", "failed", "cancelled"])),
                        name="wfe_bulk_target_outcome_known",
                    ),
                ],
            },
        ),
        migrations.RunPython(tune_bulk, untune_bulk, atomic=False),
    ]
