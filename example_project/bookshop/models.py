from django.db import models


class Book(models.Model):
    """A title that the shop has. Only the workflow `nightly-import` writes it."""

    title = models.CharField(max_length=200)
    author = models.CharField(max_length=100)
    language = models.CharField(max_length=30, db_index=True)
    year = models.PositiveSmallIntegerField(help_text="The year in which it was first published")
    price = models.DecimalField(max_digits=7, decimal_places=2)
    copies = models.PositiveIntegerField(help_text="How many stand on the shelf")
    imported_at = models.DateTimeField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["title", "author"], name="bookshop_book_once")]

    def __str__(self) -> str:
        return f"{self.title} by {self.author}"
