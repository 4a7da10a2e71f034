"""Bytes of the tokens of a tokenizer, from the rules of its `tokenizer.json`."""

import functools
import json
from collections.abc import Mapping
from typing import Any

BYTES = 256


@functools.cache
def byte_characters() -> dict[str, int]:
    """Returns the byte of each character of byte-level tokens: OpenAI, GPT-2, https://github.com/openai/gpt-2."""
    printed = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(BYTES) if byte not in printed]
    return {chr(byte): byte for byte in printed} | {chr(BYTES + n): byte for n, byte in enumerate(others)}


def spell(token: str, rules: Mapping[str, Any]) -> Any:
    """Returns the bytes of a token, or the token itself where its tokenizer keeps no spaces."""
    if is_byte_level(rules):
        characters = byte_characters()
        return bytes(characters[character] for character in token) if {*token} <= {*characters} else token
    if len(token) == 6 and token.startswith("<0x") and token.endswith(">"):
        return bytes([int(token[3:5], 16)])
    if "Metaspace" in json.dumps([rules.get("pre_tokenizer"), rules.get("decoder")]) or _replaces_spaces(rules):
        return token.replace("▁", " ").encode()
    return token


def _replaces_spaces(rules: Mapping[str, Any]) -> bool:
    return "▁" in json.dumps(rules.get("normalizer"), ensure_ascii=False)


def is_byte_level(rules: Mapping[str, Any]) -> bool:
    """Whether a tokenizer's tokens are bytes, each as a character."""
    return "ByteLevel" in json.dumps([rules.get("pre_tokenizer"), rules.get("decoder")])
