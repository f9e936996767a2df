import django.db.models.deletion
from django.db import migrations, models

import workflow_engine.ids


class Migration(migrations.Migration):
    dependencies = [
        ("workflow_engine", "0005_events_that_arrive"),
    ]

    operations = [
        migrations.CreateModel(
            name="WebhookEndpoint",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=workflow_engine.ids.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("url", models.CharField(max_length=2000, verbose_name="URL")),
                ("description", models.CharField(blank=True, default="", max_length=200, verbose_name="description")),
                ("events", models.JSONField(blank=True, default=list, verbose_name="events")),
                ("workflows", models.JSONField(blank=True, default=list, verbose_name="workflows")),
                ("active", models.BooleanField(default=True, verbose_name="active")),
                ("secret", models.CharField(editable=False, max_length=100, verbose_name="secret")),
                (
                    "previous_secret",
                    models.CharField(default="", editable=False, max_length=100, verbose_name="previous secret"),
                ),
                (
                    "previous_until",
                    models.DateTimeField(editable=False, null=True, verbose_name="previous secret until"),
                ),
                ("failures", models.PositiveIntegerField(default=0, editable=False, verbose_name="failures in a row")),
                ("failing_since", models.DateTimeField(editable=False, null=True, verbose_name="failing since")),
                ("rest_until", models.DateTimeField(editable=False, null=True, verbose_name="rests until")),
                ("disabled_at", models.DateTimeField(editable=False, null=True, verbose_name="disabled at")),
                (
                    "disabled_reason",
                    models.CharField(default="", editable=False, max_length=500, verbose_name="disabled because"),
                ),
                ("created_by", models.CharField(default="", editable=False, max_length=150, verbose_name="created by")),
                ("created_at", models.DateTimeField(editable=False, verbose_name="created at")),
                ("updated_at", models.DateTimeField(editable=False, verbose_name="changed at")),
            ],
            options={
                "verbose_name": "webhook",
                "verbose_name_plural": "webhooks",
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("active", True), ("disabled_at__isnull", True)),
                            models.Q(("active", False), ("disabled_at__isnull", False)),
                            _connector="OR",
                        ),
                        name="wfe_webhook_disabled_since",
                    )
                ],
            },
        ),
        migrations.CreateModel(
            name="WebhookDelivery",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("event_id", models.CharField(max_length=60, verbose_name="event id")),
                ("type", models.CharField(max_length=50, verbose_name="type")),
                ("run_id", models.UUIDField(null=True, verbose_name="run")),
                ("attempt", models.PositiveIntegerField(default=1, verbose_name="attempt")),
                ("delivered", models.BooleanField(verbose_name="delivered")),
                ("status", models.PositiveSmallIntegerField(null=True, verbose_name="status")),
                ("duration_ms", models.PositiveIntegerField(default=0, verbose_name="duration (ms)")),
                ("error", models.CharField(default="", max_length=500, verbose_name="error")),
                ("response", models.TextField(default="", verbose_name="response")),
                ("url", models.CharField(max_length=2000, verbose_name="URL")),
                ("sent_at", models.DateTimeField(verbose_name="sent at")),
                (
                    "endpoint",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="deliveries",
                        to="workflow_engine.webhookendpoint",
                    ),
                ),
            ],
            options={
                "verbose_name": "webhook delivery",
                "verbose_name_plural": "webhook deliveries",
                "default_permissions": ("view",),
                "indexes": [
                    models.Index(fields=["endpoint", "id"], name="wfe_webhook_delivery_of"),
                    models.Index(fields=["sent_at"], name="wfe_webhook_delivery_age"),
                ],
            },
        ),
    ]
