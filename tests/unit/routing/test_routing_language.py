from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farthing.routing.language import language_of

SAID = [
    ("en", "How do I reset my password?"),
    ("en", "Summarise this text"),
    ("en", "Write a poem about autumn"),
    ("de", "Wie setze ich mein Passwort zurück?"),
    ("de", "Was ist die Hauptstadt von Frankreich?"),
    ("de", "Schreibe ein Gedicht über den Herbst"),
    ("fr", "Comment réinitialiser mon mot de passe ?"),
    ("fr", "Quelle est la capitale de la France ?"),
    ("es", "¿Cómo puedo restablecer mi contraseña?"),
    ("it", "Come posso reimpostare la mia password?"),
    ("pt", "Como posso redefinir minha senha?"),
    ("nl", "Hoe kan ik mijn wachtwoord opnieuw instellen?"),
    ("sv", "Hur kan jag återställa mitt lösenord och varför?"),
    ("pl", "Jak mogę zresetować hasło, które jest moje?"),
    ("tr", "Parolamı nasıl sıfırlarım?"),  # noqa: RUF001 - Turkish has it
    ("vi", "Làm thế nào để đặt lại mật khẩu của tôi?"),
    ("ja", "パスワードをリセットする方法は？"),  # noqa: RUF001 - Japanese has it
    ("zh", "如何重置我的密码？"),  # noqa: RUF001 - Chinese has it
    ("ko", "비밀번호를 재설정하려면?"),
    ("ru", "Как сбросить пароль?"),
    ("uk", "Як змінити пароль і логін?"),  # noqa: RUF001 - Ukrainian has it
    ("el", "Πώς αλλάζω τον κωδικό;"),
    ("he", "איך מאפסים סיסמה?"),
    ("ar", "كيف أغير كلمة المرور؟"),
    ("fa", "چگونه رمز عبور را تغییر دهم؟"),
    ("hi", "पासवर्ड कैसे बदलें?"),
    ("th", "เปลี่ยนรหัสผ่านอย่างไร"),
]


@pytest.mark.parametrize(("language", "text"), SAID)
def test_a_sentence_tells_its_language(language: str, text: str) -> None:
    assert language_of(text) == language


@pytest.mark.parametrize("text", ["", "12 + 34 = ?", "Paris", "def f(x): return x", "\n\t ", "ok", "👍👍"])
def test_what_says_too_little_is_not_guessed_at(text: str) -> None:
    assert language_of(text) is None


def test_a_few_foreign_words_do_not_make_another_language() -> None:
    assert language_of("What does the Russian word 'привет' mean, and how do you use it in a letter?") == "en"


@given(st.text(max_size=3000))
def test_any_text_has_a_language_or_none(text: str) -> None:
    found = language_of(text)
    assert found is None or (len(found) == 2 and found.islower())


def test_of_a_long_text_the_beginning_is_read() -> None:
    assert language_of("Wie setze ich mein Passwort zurück? " * 100 + "How do I reset my password? " * 100_000) == "de"
