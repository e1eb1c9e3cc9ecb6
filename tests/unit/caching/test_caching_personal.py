"""What is personal: tables that the rules were written with, and a last one that they had not seen when it was written down.

On that one they then missed 2 of 25 personal sentences, and took 1 of 25 others for personal. They have been mended since, so what the
last test guards is that they do not get worse.
"""

from __future__ import annotations

import pytest

from farthing.caching.personal import is_personal

PERSONAL = """
Summarize my latest emails
What is my balance?
What's my account balance
Where is my order?
When will my package arrive?
How much do I owe you?
How many vacation days do I have left?
Did my payment go through?
Show me my invoices
What did I say yesterday?
Remind me to call Bob
What are my open tickets
Read my last message
Who is my account manager?
Am I eligible for a refund?
Is my subscription still active?
Why was I charged twice?
Why was my card declined?
I have two kids, what should I cook?
I am 45 years old and weigh 80 kg, what diet suits me?
What should I wear today?
Recommend me a restaurant near my home
Draft a reply to my boss
Translate my last message into French
What's on my calendar tomorrow?
Cancel my appointment
Update my shipping address to 5 Main St
Is our contract with Acme renewed?
What were our sales last quarter?
How is my application going?
Has my flight been delayed?
Tell me about myself
what time is my meeting
Do I have any meetings today?
How long have I been a customer?
Which plan am I on?
what plan are we on
List our overdue invoices
Was ist mein Kontostand?
Wo ist meine Bestellung?
Où est ma commande ?
¿Dónde está mi pedido?
¿Cuál es mi saldo?
我的订单在哪里？
私の注文はどこですか
Сколько у меня денег на счёте?
Give me a summary of my notes
find the email my wife sent
my name is Ada, who am I?
How far am I from my goal?
when do i get paid
when is my next payment due
what do you know about me
can you check my order status
could you show me my last invoice
How do I stand with my goal?
how should i spend my bonus given my debts
What medications am I taking?
my order has not arrived
I want my money back
Whats the status of my claim
Pull up my last three orders
How much have I spent this month?
I'm allergic to nuts, what can I order here?
When did I last log in?
Who sent me the last email?
what did we decide in the last meeting
Draft an email to my landlord about the leak
Which of my subscriptions renew this week?
Is there any mail for me?
My internet is down
my card was stolen yesterday
What's our churn rate?
Compare my plan with the premium one
Why is my bill so high?
I've been charged twice
Am I over my data limit?
How old am I?
What was I working on yesterday?
Rewrite my essay
Book me a table for two
what's the name of my dog
Do we have any unpaid invoices?
When is my contract up for renewal
Has our order shipped?
Can you tell me my PIN?
Let me know when my parcel arrives
show our team's calendar
I live in Berlin, which tax office is responsible?
Based on my purchases, what should I buy next?
Wann kommt mein Paket?
Quel est mon solde ?
Qual è il mio saldo?
Onde está minha encomenda?
where's my refund
give us a summary of our meeting
give me my balance
what is my wife's birthday
how is our server doing
find flights for my trip next week
""".strip().splitlines()  # noqa: RUF001 - that is how they are written there

GENERAL = """
How do I reset my password?
Forgot password help, please
Where is the password reset link?
How do I reset my entire database?
How can I change my shipping address?
How do I cancel my subscription?
What is the capital of France?
Explain quantum computing
flights from Oslo to Rome
How do I use this feature?
What is your return policy?
Can I return an item without a receipt?
How to boil an egg
Write a poem about autumn
What are the opening hours?
How do I get a refund?
Where can I find my account number?
How can I track my order?
I forgot my password
lost my password, what now
What is the best way to learn Python?
How do we deploy to production?
Do you ship to Germany?
What's the difference between TCP and UDP?
How long does delivery take?
is it safe to eat raw eggs
Help me understand recursion
I need to reset my password
Can I use my card abroad?
Steps to close my account
What should one do after a data breach?
Give me three ideas for a birthday party
Tell me a joke
Tell me about the French revolution
Show me how to sort a list in Python
can you explain photosynthesis
What happens if I miss a payment?
Where do I enter a coupon code?
who wrote Faust
Wie setze ich ein Passwort zurück?
What is the meaning of life?
Can we export data as CSV?
How do I install Docker on my laptop?
convert 10 km to miles
Is there a free plan?
What does HTTP 429 mean?
What is a mi band
What can I do in Min, Sweden
describe the mona lisa
min and max in SQL
How do I reset the router?
How can I update my billing information?
What is a mortgage?
Can I cancel at any time?
How do I add a second user to my account?
Where can I see my invoices?
What payment methods do you accept?
How long do refunds take?
Is the app available in Spanish?
What is the fastest way to lose weight?
How do you make pancakes?
Forgotten password
I want to change my email address
I would like to cancel my order
Explain the theory of relativity to me
Tell me the difference between a crocodile and an alligator
who is the president of France
Summarize the plot of Hamlet
Translate 'good morning' into Japanese
What are the side effects of ibuprofen?
How do I know if my phone is unlocked?
Do I need a visa for Japan?
What do I need to open an account?
is it possible to merge my two accounts
What documents do I need to verify my identity?
Write me a haiku about rain
Help me write a resignation letter
How do I delete my account?
How many moons does Jupiter have?
Where do I find my IBAN?
Could I get a discount as a student?
What if I lose my card?
Can you recommend a good book?
wie funktioniert ein Wechselrichter
Comment fonctionne un moteur diesel ?
How would I go about changing my PIN
Which countries do you support?
Give me a list of US presidents
""".strip().splitlines()

UNSEEN_PERSONAL = """
What's the total of my cart?
Who approved my leave request?
how many points do we have
what's wrong with my account
Find my boarding pass
I moved to Hamburg last week, what do I have to register?
What did you tell me about the warranty?
Did anyone call me today?
Why can't I see my messages?
When is our next release?
my invoice is wrong
What discount do I get?
Which of our customers churned?
send the contract to my lawyer
has my salary been paid
What is my current plan?
How close am I to my limit?
I'm on the free tier, what's included?
what tax class am I in
Mon colis est où ?
Meine Rechnung stimmt nicht
Kde je moje objednávka?
¿Cuándo llega mi pedido?
Que horas é a minha reunião?
Show the balance on my savings account
""".strip().splitlines()

UNSEEN_GENERAL = """
How do I connect the printer?
What is the cancellation policy?
How can we export reports?
Where do I download the app?
What is an ETF?
How do I become a better writer?
Are dogs allowed in the hotel?
Can I pay by invoice?
Explain recursion to me like I am five
What is the tallest building in the US?
Give me five names for a cat
How do I remove a wine stain?
I want to learn Spanish, where do I start?
Do we need a permit to build a fence?
Is breakfast included?
What does the warranty cover?
How does photosynthesis work?
lost card, what now
How to center a div
Wie kündige ich ein Abo?
Comment annuler un abonnement ?
What happens if I cancel early?
write a short story about a robot
who painted Guernica
Convert 5 miles to km
""".strip().splitlines()


@pytest.mark.parametrize("text", PERSONAL)
def test_what_hangs_on_who_asks_is_personal(text: str) -> None:
    assert is_personal(text)


@pytest.mark.parametrize("text", GENERAL)
def test_what_anybody_may_be_told_is_not(text: str) -> None:
    assert not is_personal(text)


def test_the_score_on_sentences_that_the_rules_were_not_written_with() -> None:
    missed = [text for text in UNSEEN_PERSONAL if not is_personal(text)]
    taken_for_personal = [text for text in UNSEEN_GENERAL if is_personal(text)]
    assert not missed
    assert len(taken_for_personal) <= 1, taken_for_personal


@pytest.mark.parametrize("text", ["", " ", "?", "😀😀", "\u202emy balance", "i" * 1000, "my " * 300, "what is " * 200, "a" * 100_000])
def test_odd_texts_have_an_answer_soon(text: str) -> None:
    assert is_personal(text) in {True, False}  # a regular expression that backtracks takes minutes: the test would time out
