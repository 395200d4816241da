"""What happens in the machine's world, told step by step: each leads to a place where one fault would show."""

from chat import pricing, spend
from chat.models import Summary, UsageRecord
from tests.test_money_machine import A_LONG_WHILE, NEXT_MONTH, MoneyMachine

LONG_CHAT = 4  # of Alice's; the next one is Bob's


def a_worker_comes_back_that_was_replaced_before_it_sent(play: MoneyMachine):
    play.ask(0, 1, "claimed")
    [old] = play.workers
    play.time_passes(4, False)
    play.sweep()
    play.ring_again(0)
    new = play.workers[1]
    play._go_on(new)

    play._go_on(old)

    play._check()


def a_worker_comes_back_after_the_sweeper_has_billed_its_deleted_chat(play: MoneyMachine):
    play.ask(0, 1, "posted")
    play.claude_writes(0, 25, True)
    play.delete_a_conversation(0)
    play.time_passes(A_LONG_WHILE, False)
    play.sweep()

    play.go_on(0, "end_turn")

    play._check()


def an_answer_ends_in_the_next_month(play: MoneyMachine):
    play.ask(0, 1, "posted")
    play.time_passes(NEXT_MONTH, True)
    play.ask(2, 1, "posted")

    play.go_on(0, "end_turn")

    play._check()


def a_waiting_question_is_stopped(play: MoneyMachine):
    play.ask(0, 1, "")

    play.stop(0)

    play._check()


def an_answer_breaks_in_the_middle(play: MoneyMachine):
    play.ask(0, 1, "posted")
    play.claude_writes(0, 25, True)

    play.go_on(0, "cut")

    play._check()


def a_worker_dies_in_silent_thinking(play: MoneyMachine):
    play.ask(0, 1, "posted")
    play.claude_writes(0, 25, False)
    play.keeper_looks(0)
    play.kill(0)

    play.time_passes(4, False)
    play.sweep()

    play._check()


def a_worker_dies_after_it_has_sent(play: MoneyMachine):
    play.ask(0, 1, "posted")
    play.claude_writes(0, 25, True)
    play.kill(0)

    play.time_passes(4, False)
    play.sweep()
    play.ring_again(0)
    for worker in play.workers:
        play._go_on(worker)

    play._check()


def two_ask_with_money_for_one(play: MoneyMachine):
    play.set_a_limit(0, "pot", "0.05", False)
    play.ask(0, 1, "posted")

    play.ask(1, 1, "posted")

    play._check()


def a_title_is_refused(play: MoneyMachine):
    play.ask(0, 1, "posted")
    play.go_on(0, "end_turn")

    play.go_on(0, "refusal")

    assert [post.record.purpose for post in play.claude.posts] == ["reply", "title"]
    play._check()


def a_call_that_is_over_ends_again(play: MoneyMachine):
    play.ask(0, 1, "posted")
    play.go_on_to_the_end(0)

    for record in UsageRecord.objects.all():
        spend.settle(record, pricing.Usage(output=1), exact=True)

    play._check()


def a_long_chat_is_summarised(play: MoneyMachine):
    play.summarise(LONG_CHAT)

    play.go_on_to_the_end(0, 25)

    play._check()


def a_summary_breaks_in_the_middle(play: MoneyMachine):
    play.summarise(LONG_CHAT)
    play.claude_writes(0, 25, True)
    play.time_passes(4, False)
    play.claude_writes(0, 25, True)

    play.go_on(0, "cut")

    play._check()


def a_summary_is_stopped(play: MoneyMachine):
    play.summarise(LONG_CHAT)
    play.claude_writes(0, 500, True)

    play.stop_a_summary(0)
    play.go_on(0, "end_turn")

    assert Summary.objects.get().error == "stopped"
    play._check()


def a_worker_dies_after_it_has_sent_for_a_summary(play: MoneyMachine):
    play.summarise(LONG_CHAT)
    play.claude_writes(0, 500, True)
    play.kill(0)

    play.time_passes(A_LONG_WHILE, False)
    play.sweep()
    play.ring_again_for_a_summary(0)

    play._check()


def an_answer_needs_a_summary_first(play: MoneyMachine):
    play.ask(LONG_CHAT, 1, "claimed")

    play.go_on_to_the_end(0, 25)

    assert [post.record.purpose for post in play.claude.posts] == ["summary", "reply"]
    play._check()


def two_summarise_with_money_for_one(play: MoneyMachine):
    play.set_a_limit(0, "pot", "0.002", False)
    play.summarise(LONG_CHAT)

    play.summarise(LONG_CHAT + 1)

    play._check()


def a_picture_is_sent(play: MoneyMachine):
    play.ask(0, 1, "posted", enclosed="picture")

    play.go_on_to_the_end(0, 25)

    play._check()


def a_pdf_has_more_on_its_pages_than_anybody_expects(play: MoneyMachine):
    play.ask(0, 1, "posted", enclosed="dense")

    play.go_on_to_the_end(0, 25)

    play._check()


def claude_searches_and_writes_as_much_as_it_may(play: MoneyMachine):
    play.ask(0, 1, "posted", search=True)
    for _ in range(15):
        play.keeper_looks(0)
        play.claude_writes(0, 500, True)
    for _ in range(3):
        play.keeper_looks(0)
        play.claude_searches(0)
    play.keeper_looks(0)

    play.go_on(0, "end_turn", 500)

    play._check()


def what_was_foreseen_is_sent(play: MoneyMachine):
    play.ask(0, 400, "posted", search=True, enclosed="notes")

    play.go_on_to_the_end(0, 25)

    play._check()


def the_next_message_waits_and_is_sent(play: MoneyMachine):
    play.ask(0, 1, "posted")
    play.ask(0, 1, "")
    play.go_on_to_the_end(0, 25)

    play.sweep()
    for _ in range(2):
        play.ring_again(0)

    play._check()
