from django.apps import AppConfig


class BookshopConfig(AppConfig):
    name = "example_project.bookshop"
    verbose_name = "Bookshop"
    default_auto_field = "django.db.models.BigAutoField"
