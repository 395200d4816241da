import django.db.models.deletion
import django.utils.timezone
from django.db import migrations, models

from chat import search_index


class Migration(migrations.Migration):
    dependencies = [
        ("chat", "0003_a_chat_people_choose"),
    ]

    operations = [
        migrations.AddField(
            model_name="conversation",
            name="read_at",
            field=models.DateTimeField(
                default=django.utils.timezone.now, help_text="When its owner last saw its newest answer."
            ),
        ),
        migrations.AddField(
            model_name="user",
            name="single_keys",
            field=models.BooleanField(default=True, help_text="Whether ? and / do something on their own."),
        ),
        migrations.CreateModel(
            name="SearchEntry",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "conversation",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="search_entries",
                        to="chat.conversation",
                    ),
                ),
                (
                    "message",
                    models.OneToOneField(
                        blank=True,
                        help_text="Else the title.",
                        null=True,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="search_entry",
                        to="chat.message",
                    ),
                ),
            ],
        ),
        migrations.RunPython(
            lambda apps, editor: search_index.install(editor.connection),
            lambda apps, editor: search_index.remove(editor.connection),
        ),
    ]
