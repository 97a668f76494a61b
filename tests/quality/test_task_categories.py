"""Categories of tasks: one each, by rules whose words are in a data file."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hfsynth.core.records import Pair
from hfsynth.quality.task_categories import Category, category_of


@pytest.mark.parametrize(
    ("instruction", "response", "category"),
    [
        ("How far is it?\nLet's think step by step.", "1 + 1 is 2.\nTherefore, the answer is 2", "chain_of_thought"),
        ("Which one?\nOptions:\n- a cat\n- a dog", "a dog", "multiple_choice"),
        ("Was it the cat or the dog?", "the dog", "multiple_choice"),
        ("The capital of France is ____.", "Paris", "fill_in"),
        ("Translate the sentence into German: I sleep.", "Ich schlafe.", "translation"),
        ("Who translated the work into Latin?", "A monk", "who"),
        ("Write a question about the text.", "What is it?", "question_writing"),
        ('Break the question "Is it big?" down into simpler steps.', "1. How big is it?", "decomposition"),
        ("Suggest a title for this passage.", "The dog", "title"),
        ("Summarize the passage.", "It is about a dog.", "summarization"),
        ("Rewrite this in your own words.", "A dog barks.", "rewriting"),
        ("List the key terms of the passage.", "dog, cat", "key_terms"),
        ("Classify the review.", "positive", "classification"),
        ("What is the topic of this text?", "dogs", "topic"),
        ("Compare cats with dogs.", "Dogs bark.", "comparison"),
        ('Define "photosynthesis".', "Sugar out of light", "definition"),
        ("Which sentence tells that dogs bark?", "Dogs bark.", "extraction"),
        ("Continue the story.", "And then it barked.", "continuation"),
        ("List three animals.", "cat, dog, cow", "list"),
        ("Explain why dogs bark.", "They are glad.", "explanation"),
        ("Do dogs bark?", "They do, and loudly.", "yes_no"),
        ("Which of them barks?", "Yes.", "yes_no"),
        ("True or false: dogs bark.", "true", "yes_no"),
        ("How many dogs are there?", "Two", "quantity"),
        ("Why do dogs bark?", "They are glad.", "why"),
        ("In which year was it built?", "1889", "when"),
        ("In what city is it?", "Paris", "where"),
        ("According to the text, who barked?", "The dog", "who"),
        ("How do dogs bark?", "Loudly", "how"),
        ("What barks?", "A dog", "what"),
        ("Describe the dog.", "Small", "open_ended"),
        ("Dogs", "bark", "other"),
        ("", "", "other"),
        ("Was hat der Hund gesagt?", "Wau", "what"),
        ("Wie viele Hunde gibt es?", "Zwei", "quantity"),
        ("Pourquoi le chien aboie ?", "Il est content", "why"),
        ("¿Dónde está el perro?", "En casa", "where"),
        ("Когда лаял пёс?", "Вчера", "when"),
        ("为什么狗会叫？", "高兴", "why"),
        ("犬はどこですか", "家", "where"),
        ("ทำไมสุนัขเห่า", "ดีใจ", "why"),
        ("متى نبح الكلب؟", "أمس", "when"),
    ],
)
def test_category_of_a_pair(instruction: str, response: str, category: str) -> None:
    assert category_of(Pair(instruction, response)) == category


@settings(deadline=None)
@given(st.text(), st.text())
def test_every_pair_has_a_category(instruction: str, response: str) -> None:
    assert category_of(Pair(instruction, response)) in Category
