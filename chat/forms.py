from collections.abc import Sequence
from datetime import date

from django import forms
from django.utils import timezone

from chat import catalogue
from chat.asking import LONGEST
from chat.limits import Limit, last_day
from chat.models import Attachment, Budget, Conversation, User
from chat.models.budget import Period
from chat.models.conversation import Effort
from chat.money import NANO, DollarsFormField
from chat.text import clean

LONGEST_TEXT = 400_000  # characters of one message; beyond it the request would not fit the field limit either
LONGEST_INSTRUCTIONS = 20_000
MOST_FILES = 100  # of a draft; how many may be sent is another question


class TextField(forms.CharField):
    """Keeps white space, which means something in code, and drops what no database can store."""

    def __init__(self, **kwargs):
        super().__init__(strip=False, widget=forms.Textarea, **kwargs)

    def to_python(self, value) -> str:
        return clean((super().to_python(value) or "").replace("\r\n", "\n"))


class IdsField(forms.Field):
    """The ids of files, one field of the request each."""

    widget = forms.MultipleHiddenInput

    def clean(self, value) -> list[str]:
        one = forms.UUIDField(error_messages={"invalid": "This form is out of date. Reload the page."})
        return [str(one.clean(each)) for each in (value or [])[:MOST_FILES]]


TOO_LONG = (
    "This is too long for one message: %(show_value)s characters of at most %(limit_value)s. "
    "Shorten it, or send it in parts."
)


class WordedForm(forms.Form):
    """Its errors are said one at a time, beside the box."""

    @property
    def first_error(self) -> str:
        return next((str(errors[0]) for errors in self.errors.values()), "")


class ComposerForm(WordedForm):
    """What the composer sends. Model and effort may be left out: then the conversation's stay.

    `composer` says that it is the composer itself: its draft goes with the text, a box that is not sent is not
    checked, and while an answer is written the text may wait for its end. `after` is the answer that its writer sees
    above it, `seen` the draft that stood in the box.
    """

    text = TextField(
        required=False,
        max_length=LONGEST_TEXT,
        error_messages={"max_length": TOO_LONG},
    )
    client_id = forms.UUIDField(
        required=False,
        error_messages={"invalid": "This form is out of date. Reload the page; your text stays here."},
    )
    after = forms.UUIDField(
        required=False,
        error_messages={"invalid": "This form is out of date. Reload the page; your text stays here."},
    )
    model = forms.CharField(required=False)
    effort = forms.ChoiceField(
        choices=Effort, required=False, error_messages={"invalid_choice": "Choose quick, balanced or deep."}
    )
    search = forms.BooleanField(required=False)
    composer = forms.BooleanField(required=False)
    seen = forms.CharField(required=False)

    def __init__(self, data=None, *, attachments: Sequence[Attachment] = ()):
        self.attachments = attachments
        super().__init__(data)

    def clean_text(self) -> str:
        text = self.cleaned_data["text"]
        if not text.strip() and not self.attachments:
            raise forms.ValidationError("Write something first.")
        return text if text.strip() else ""

    def clean_model(self) -> str:
        model = self.cleaned_data["model"]
        if model and not catalogue.is_offered(model):
            raise forms.ValidationError("This model is not offered here. Choose one from the list.")
        return model

    @property
    def file_ids(self) -> list[str]:
        return [str(attachment.id) for attachment in self.attachments]


class ForesightForm(forms.Form):
    """What stands in a composer, to be priced. Anything may still be missing."""

    text = TextField(required=False, max_length=LONGEST_TEXT, error_messages={"max_length": TOO_LONG})
    model = forms.CharField(required=False)
    effort = forms.ChoiceField(choices=Effort, required=False)
    search = forms.BooleanField(required=False)
    attachments = IdsField(required=False)

    clean_model = ComposerForm.clean_model


class DraftForm(WordedForm):
    """What stands in a composer. A file that is not theirs or that is gone is left out when it is sent.

    `seen` is the draft that stood there before; `waiting` the message above the box, where one waits.
    """

    text = TextField(
        required=False,
        max_length=LONGEST_TEXT,
        error_messages={"max_length": "This is too long to be kept, and to be sent as one message. Shorten it."},
    )
    client_id = forms.UUIDField(required=False)
    edition = forms.IntegerField(required=False, min_value=0, max_value=2**53)
    attachments = IdsField(required=False)
    seen = forms.CharField(required=False)
    waiting = forms.UUIDField(required=False)


INSTRUCTIONS_TOO_LONG = "This is too long: %(show_value)s characters of at most %(limit_value)s. Shorten it."


class PreferencesForm(forms.ModelForm):
    instructions = TextField(
        required=False,
        max_length=LONGEST_INSTRUCTIONS,
        error_messages={"max_length": INSTRUCTIONS_TOO_LONG},
    )

    class Meta:
        model = User
        fields = ["instructions"]


class TitleForm(forms.ModelForm):
    """A conversation's title alone."""

    title = forms.CharField(
        max_length=200,
        required=False,
        error_messages={
            "max_length": "A title has at most %(limit_value)s characters; this one has %(show_value)s. Shorten it."
        },
    )

    class Meta:
        model = Conversation
        fields = ["title"]

    def clean_title(self) -> str:
        return clean(" ".join(self.cleaned_data["title"].split()))


class ConversationForm(TitleForm):
    system_prompt = TextField(
        required=False,
        max_length=LONGEST_INSTRUCTIONS,
        error_messages={"max_length": INSTRUCTIONS_TOO_LONG},
    )

    class Meta(TitleForm.Meta):
        fields = ["title", "system_prompt"]


MOST = 1_000_000  # dollars that one person can ask for; a slip of the finger, not a policy
AMOUNT_WORDS = {"required": "Write an amount.", "invalid": "Write an amount in dollars, for example 5 or 2.50."}


class AmountField(DollarsFormField):
    """Dollars as people write them, in nano-dollars: with a dollar sign or without."""

    def __init__(self, *, least: int = 0, **kwargs):
        self.least = least
        super().__init__(error_messages=AMOUNT_WORDS, **kwargs)

    def to_python(self, value):
        return super().to_python(value.strip().removeprefix("$") if isinstance(value, str) else value)

    def clean(self, value):
        amount = super().clean(value)
        if amount is not None and not self.least <= amount <= MOST * NANO:
            least = "zero or more" if self.least == 0 else "above zero"
            raise forms.ValidationError(f"Write an amount {least}, of at most ${MOST:,}.")
        return amount


class ComingDayField(forms.DateField):
    """A last day: today or later, within a year."""

    def __init__(self, **kwargs):
        words = {"required": "Choose a day.", "invalid": "Write a day as year-month-day, for example 2026-12-31."}
        super().__init__(error_messages=words, **kwargs)

    def clean(self, value) -> date | None:
        day = super().clean(value)
        today = timezone.localdate()
        if day and day < today:
            raise forms.ValidationError("This day is over. Choose today or a later one.")
        if day and day > today + LONGEST:
            raise forms.ValidationError("Choose a day within a year from now.")
        return day


class RequestForm(forms.Form):
    """Asking for more. Only limits that really stop this person can be named."""

    limit = forms.CharField(error_messages={"required": "Choose a limit."})
    amount = AmountField(least=1)
    until = ComingDayField()
    reason = TextField(
        max_length=1_000,
        error_messages={
            "required": "Say what it is for.",
            "max_length": "Say it in at most %(limit_value)s characters; these are %(show_value)s.",
        },
    )

    def __init__(self, data=None, *, limits: list[Limit], account: str = ""):
        self.limits = {limit.name: limit for limit in limits}
        chosen = next((limit for limit in limits if limit.account == account), limits[0] if limits else None)
        initial = {}
        if chosen and chosen.resets_at:
            initial = {"limit": chosen.name, "until": last_day(chosen.resets_at)}
        super().__init__(data, initial=initial)

    def clean_limit(self) -> Limit:
        limit = self.limits.get(self.cleaned_data["limit"])
        if limit is None:
            raise forms.ValidationError("This is not a limit of yours. Choose one from the list.")
        return limit

    def clean_reason(self) -> str:
        reason = self.cleaned_data["reason"].strip()
        if not reason:
            raise forms.ValidationError("Say what it is for.")
        return reason


class OwnLimitForm(forms.Form):
    """A limit for oneself."""

    limit = AmountField()
    period = forms.ChoiceField(choices=Period, error_messages={"invalid_choice": "Choose a day, a week or a month."})
    mode = forms.ChoiceField(choices=Budget.Mode, error_messages={"invalid_choice": "Choose to block or to warn."})


class PersonLimitForm(forms.Form):
    """One person's limit, set by an administrator. Without a last day it lasts."""

    limit = AmountField()
    period = forms.ChoiceField(choices=Period, error_messages={"invalid_choice": "Choose a day, a week or a month."})
    until = ComingDayField(required=False)


class SearchForm(forms.Form):
    """What somebody looks for. No query is wrong, and what is no place to go on from is left out."""

    q = TextField(required=False)
    before = forms.IntegerField(required=False, min_value=1, max_value=2**63 - 1)
