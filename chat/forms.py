from django import forms

from chat import catalogue
from chat.models import Conversation
from chat.models.conversation import Effort
from chat.text import clean

LONGEST_TEXT = 400_000  # characters of one message; beyond it the request would not fit the field limit either


class TextField(forms.CharField):
    """Keeps white space, which means something in code, and drops what no database can store."""

    def __init__(self, **kwargs):
        super().__init__(strip=False, widget=forms.Textarea, **kwargs)

    def to_python(self, value) -> str:
        return clean((super().to_python(value) or "").replace("\r\n", "\n"))


class ComposerForm(forms.Form):
    """What the composer sends. Model and effort may be left out: then the conversation's stay."""

    text = TextField(
        max_length=LONGEST_TEXT,
        error_messages={
            "required": "Write something first.",
            "max_length": "This is too long for one message: %(show_value)s characters of at most %(limit_value)s. "
            "Shorten it, or send it in parts.",
        },
    )
    client_id = forms.UUIDField(
        required=False,
        error_messages={"invalid": "This form is out of date. Reload the page; your text stays here."},
    )
    model = forms.CharField(required=False)
    effort = forms.ChoiceField(
        choices=Effort, required=False, error_messages={"invalid_choice": "Choose quick, balanced or deep."}
    )

    def clean_text(self) -> str:
        text = self.cleaned_data["text"]
        if not text.strip():
            raise forms.ValidationError("Write something first.")
        return text

    def clean_model(self) -> str:
        model = self.cleaned_data["model"]
        if model and model not in {choice.id for choice in catalogue.offered()}:
            raise forms.ValidationError("This model is not offered here. Choose one from the list.")
        return model

    @property
    def first_error(self) -> str:
        return next((str(errors[0]) for errors in self.errors.values()), "")


class ConversationForm(forms.ModelForm):
    title = forms.CharField(max_length=200, required=False)
    system_prompt = TextField(required=False, max_length=20_000)

    class Meta:
        model = Conversation
        fields = ["title", "system_prompt"]

    def clean_title(self) -> str:
        return clean(" ".join(self.cleaned_data["title"].split()))
