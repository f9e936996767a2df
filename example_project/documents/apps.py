from django.apps import AppConfig


class DocumentsConfig(AppConfig):
    name = "example_project.documents"
    verbose_name = "Documents"
