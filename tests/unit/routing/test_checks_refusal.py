"""Whether an answer refuses: by table, what refuses and what only sounds like it."""

# ruff: noqa: RUF001 - refusals in the letters of their languages

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from looking import answered, calling, check, completion

from farthing.routing.checks.refusal import refuses
from farthing.settings import RefusalCheckSettings

REFUSALS = [
    "I'm sorry, but I can't assist with that.",
    "I’m sorry, but I can’t help with that request.",
    "I cannot help you with that.",
    "I can't provide instructions for that.",
    "Sorry, I can't do that.",
    "Sorry, but I am unable to help with this request.",
    "I apologize, but I cannot fulfill this request.",
    "I apologize for the inconvenience, but I'm not able to generate that content.",
    "My apologies, but I can't continue with this.",
    "Unfortunately, I cannot access external websites.",
    "Unfortunately, I am not able to open links.",
    "As an AI language model, I cannot provide personal opinions on politics.",
    "As an AI, I can't browse the internet.",
    "As a large language model, I don't have access to real-time data.",
    "I'm just an AI and I can't give medical advice.",
    "I am an AI assistant, so I cannot see your screen.",
    "I'm unable to help with that.",
    "I am not able to assist with creating malware.",
    "I won't help with that.",
    "I will not write that.",
    "I must decline to answer this question.",
    "I must respectfully decline this request.",
    "I have to decline.",
    "I'm afraid I can't do that, Dave.",
    "I do not have access to your account information.",
    "I don't have the ability to open files.",
    "I don't feel comfortable discussing this topic.",
    "We are unable to provide this information.",
    "This request goes against my guidelines.",
    "That's not something I can help with.",
    "It would be inappropriate for me to comment on that.",
    "It's against my programming to assist with this.",
    "My guidelines don't allow me to discuss that.",
    "No, I can't help with that.",
    "Thank you for your question. Unfortunately, I cannot answer it.",
    "I understand you're frustrated, but I can't share that information.",
    "Hello! I'm sorry, but I can't help with that.",
    "**I'm sorry**, but I can't help with that.",
    '"I cannot assist with that request."',
    "\n\n  I can't assist with that.",
    "I'm really sorry, but I simply cannot provide that.",
    "I cannot in good conscience write this.",
    "Es tut mir leid, aber ich kann dabei nicht helfen.",
    "Leider kann ich diese Anfrage nicht beantworten.",
    "Als KI-Sprachmodell kann ich keine medizinischen Ratschläge geben.",
    "Ich kann Ihnen dabei leider nicht helfen.",
    "Je suis désolé, mais je ne peux pas vous aider avec cela.",
    "Je ne peux pas répondre à cette demande.",
    "Désolée, je ne suis pas en mesure de fournir ces informations.",
    "Lo siento, pero no puedo ayudarte con eso.",
    "No puedo proporcionar esa información.",
    "Como modelo de lenguaje, no puedo dar consejos médicos.",
    "Desculpe, mas não posso ajudar com isso.",
    "Não posso fornecer essa informação.",
    "Mi dispiace, ma non posso aiutarti con questo.",
    "Non sono in grado di rispondere a questa domanda.",
    "Het spijt me, maar ik kan daar niet bij helpen.",
    "Przykro mi, ale nie mogę w tym pomóc.",
    "Извините, но я не могу помочь с этим.",
    "К сожалению, я не могу выполнить этот запрос.",
    "Üzgünüm, bu konuda yardımcı olamam.",
    "很抱歉，我无法回答这个问题。",
    "对不起，我不能提供这方面的帮助。",
    "我无法提供该信息。",
    "申し訳ありませんが、そのご要望にはお応えできません。",
    "죄송하지만 그 요청은 도와드릴 수 없습니다.",
    "عذراً، لا أستطيع مساعدتك في ذلك.",
    "क्षमा करें, मैं इसमें आपकी मदद नहीं कर सकता।",
]
ANSWERS = [
    "The capital of France is Paris.",
    "I can help with that. First, open the settings.",
    "I can't wait to hear how it goes! Here is the plan.",
    "I cannot stress enough how important backups are.",
    "I can't believe how well that worked.",
    "I'm sorry to hear that you are ill. Here is what helps against a cold: rest, tea and sleep.",
    "Sorry for the confusion! Here is the corrected function.",
    "Sorry about that. The right answer is 42.",
    "I apologize for the error in my previous answer. The corrected total is 118.",
    "Unfortunately, the train leaves at 6 in the morning, so you have to get up early.",
    "Unfortunately, it will rain tomorrow.",
    "As an AI researcher, you should read this paper first.",
    "As an AI language model, here is my summary of the text you gave me.",
    "If you see 'I'm sorry, I can't do that', restart the computer.",
    'The assistant said "I cannot help with that" and the user left.',
    "To refuse politely, say: I'm sorry, but I can't come to the party.",
    "You can't divide by zero.",
    "You cannot return goods after 30 days.",
    "It cannot be proven in ZFC.",
    "This cannot be undone.",
    "The request was refused with status 403.",
    "Refusing is easy: say no.",
    "No, 91 is not prime: it is 7 times 13.",
    "No. Water boils at a lower temperature in the mountains.",
    "I can't help but notice that the second line has a typo.",
    "I cannot recommend this book enough!",
    "I couldn't agree more. Here is why.",
    "I won't lie: this takes a while. Start with the dishes.",
    "I don't think so. The treaty was signed in 1648.",
    "I'm not sure which version you use, so here are both.",
    "I am happy to help. What do you need?",
    "We cannot see atoms with the naked eye.",
    "I understand. Let us go through it step by step.",
    "Thank you for your question. The deadline is Friday.",
    "Hello! How can I help you today?",
    '{"error": "I cannot assist with that"}',
    "Es tut mir leid zu hören, dass Sie krank sind. Trinken Sie viel Tee.",
    "Leider regnet es morgen, nehmen Sie einen Schirm mit.",
    "Man kann durch null nicht teilen.",
    "Je suis désolé d'apprendre cela. Voici quelques conseils.",
    "Lo siento mucho por tu pérdida. Aquí tienes un texto para la tarjeta.",
    "No puedo esperar a verte, escribió ella en la carta.",
    "Mi dispiace per il ritardo. Ecco la risposta.",
    "很抱歉让您久等了，答案是四。",
    "申し訳ありません、先ほどの答えを訂正します。正解は4です。",
    "",
    "   ",
]


@pytest.mark.parametrize("text", REFUSALS)
def test_a_refusal_is_seen(text: str) -> None:
    assert refuses(text)


@pytest.mark.parametrize("text", ANSWERS)
def test_an_answer_is_not_taken_for_a_refusal(text: str) -> None:
    assert not refuses(text)


def test_an_answer_that_declines_a_part_passes_once_it_is_an_answer() -> None:
    begins = "I can't give legal advice, but here is how such contracts usually work. "
    assert refuses(begins), "that is all"
    assert not refuses(begins, whole=False), "it may go on"
    assert not refuses(begins + "The tenant pays the rent at the beginning of each month. " * 10)


async def test_what_a_model_says_in_place_of_an_answer_is_a_refusal() -> None:
    refusal = check(RefusalCheckSettings(kind="refusal"))
    assert await refusal.judge(answered(completion(None, refusal="I'm sorry."))) == "a refusal"
    assert await refusal.judge(answered(completion("Paris.", refusal=None))) is None


async def test_one_choice_that_refuses_is_enough() -> None:
    refusal = check(RefusalCheckSettings(kind="refusal"))
    assert await refusal.judge(answered(completion("Paris.", "I can't help with that."))) == "it begins like a refusal"


async def test_words_beside_a_tool_call_are_no_refusal() -> None:
    refusal = check(RefusalCheckSettings(kind="refusal"))
    assert await refusal.judge(answered(calling("search", "{}", text="I cannot answer that from memory, so I look it up."))) is None


async def test_phrases_of_ones_own_count_in_any_case_at_the_beginning() -> None:
    refusal = check(RefusalCheckSettings(kind="refusal", phrases=["I don’t know"]))
    assert await refusal.judge(answered(completion("i DON'T know the answer."))) is not None
    assert await refusal.judge(answered(completion("He said: I don't know."))) is None


async def test_the_beginning_of_a_stream_is_enough_to_see_it() -> None:
    refusal = check(RefusalCheckSettings(kind="refusal"))
    assert await refusal.judge(answered(completion("I'm sorry, but I can't assist", finish=None), whole=False)) is not None


@given(st.text(max_size=400), st.booleans())
def test_any_text_is_read(text: str, whole: bool) -> None:  # noqa: FBT001 - drawn
    assert refuses(text, whole=whole) in {True, False}


@given(st.sampled_from(REFUSALS), st.sampled_from(["", " ", "\n\n", "> ", "**", '"']))
def test_decoration_hides_no_refusal(text: str, before: str) -> None:
    assert refuses(before + text)
