"""Examples of bodies, by the name of their schema, for the OpenAPI document. A test validates them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

REQUEST_ID: Final = "req_Zk3vD0cQm1u9Hq7sT2xW5A"
_JOB_ID: Final = "job_q9A7nT1bX5cV3mK8sJ2dL6fH0gR4wE-y"
_SESSION_ID: Final = "ses_m4Zr8Qw1Lk7Tz0Xc5Vb9Ny2Hj6Gf3D-s"
# The invoices are of regtest, and whole: programs that are tried on the examples read them.
_EVAL_INVOICE: Final = {
    "paymentRequest": (
        "lnbcrt100n1p4s25sspp5qt2yngclhvn8ere496vk3fu78e0ujhqmh649qt7kg48tmedyhmwqsp5yg3zyg3zyg3zyg3zyg3z"
        "yg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3qdqsg4mxzmr4v96xjmmwxqrrsscqpj9qyysgqey6ln8p3jm58g6m233qzmvcfgy2h"
        "nq02hafekc5jwa52w68yl9rh6las3l5kg6hugjtf4rgt4zxma6f54h32jpw7vxel94hyxwzyqaqp95rjrw"
    ),
    "paymentHash": "02d449a31fbb267c8f352e9968a79e3e5fc95c1bbeaa502fd6454ebde5a4bedc",
    "amountSats": 10,
    "expiresAt": "2026-11-24T10:00:00.000Z",
    "payPage": "/pay/i3-4g7nVZvMtRAQRxs37jct_jR6O6HkFDTZks7-fuNEGSBzLqLHYv8PH_LiuSRMsGotk",
}
_WORK_INVOICE: Final = {
    "paymentRequest": (
        "lnbcrt90n1p4s25shpp5k6kv4qdqjwdg2mp4unzp3r54hytnr243633f5n8w08wsnhk5lj2qsp5yg3zyg3zyg3zyg3zyg3zy"
        "g3zyg3zyg3zyg3zyg3zyg3zyg3zyg3qdq82ahhy6cxqrrsscqpj9qyysgqqc670m73ey44j4wjh6y3j03alxf4ccwvgz9xkz"
        "sxhy7xs5mhj6aqkxmmy8c0yyww7vwcvfecd8gzh7lt5c84f4j6uaarrpvhhl89cqcpc4u8ec"
    ),
    "paymentHash": "b6acca81a0939a856c35e4c4188e95b91731aab1d4629a4cee79dd09ded4fc94",
    "amountSats": 9,
    "expiresAt": "2026-11-24T10:00:07.000Z",
    "payPage": "/pay/8A5VGYoZiUWR7_kIF6eq5oU61SE21O53jNBy3rrRFjnGAfcPDYagqtO-0mTB0RTH-9Z-",
}
_DEPOSIT_INVOICE: Final = {
    "paymentRequest": (
        "lnbcrt10u1p4s25sspp5y0vqpqwexe4lgmxr2z4wn8m25y3pfes2adxq5fj25vs6r6qfsr9ssp5yg3zyg3zyg3zyg3zyg3zy"
        "g3zyg3zyg3zyg3zyg3zyg3zyg3zyg3qdqvg3jhqmmnd96qxqrrsscqpj9qyysgqcnh4qzgfqfrjd3kyg0j8x3424lhczhj4w"
        "8a9pp6t2rh8zjjuuu0pelcdy4al96jjqjxa0n0ajxp25a5g4hwpudnc0sqpqp27cxaffegpyk6vjn"
    ),
    "paymentHash": "23d80081d9366bf46cc350aae99f6aa12214e60aeb4c0a264aa321a1e80980cb",
    "amountSats": 1000,
    "expiresAt": "2026-11-24T10:00:00.000Z",
    "payPage": "/pay/j4PpujG9Wzgclilj5bURUwses_eFQl10KpTqmKwRNSq4ds4bCserGTk6XyGoi9inE4QU",
}
# Regtest invoices that are valid until the year 2126: the server takes the examples of what clients send.
_INVOICE_OVER_3_SATS: Final = (
    "lnbcrt30n1p4s2cpqpp5pp876z9e0zh56lgedf6yd2rttqqfucmtvywmzcs3kedf4t0l98zssp5yg3zyg3zyg3zyg3zyg3zyg3zy"
    "g3zyg3zyg3zyg3zyg3zyg3zyg3qdq2wfjkvatwvsxq8zals8sqcqpj9qyysgqjlg0s00mma8fk7n4tlu4qxjmzqvgw05dpag7hdd"
    "3qfxue0n429ez9f5qatqu5lew89xpgc09dkl0xunkrl3rhrmp90tcwtn3e6yyllgq3aufvf"
)
_INVOICE_OVER_985_SATS: Final = (
    "lnbcrt9850n1p4s2cpqpp5ry2jmha6rya4kz0uhqx3hwjjfrekqf7qd6qkwrd45u2xldj56nkqsp5yg3zyg3zyg3zyg3zyg3zyg3"
    "zyg3zyg3zyg3zyg3zyg3zyg3zyg3qdq2wfjkvatwvsxq8zals8sqcqpj9qyysgqtgw4fxs6eqtesdynadm9phtwah3efnjm7qk0g"
    "avh97nwpz6fegl4hwl7sp27sj09q290rwjmrv47pdt05rf7y8dvjcw5rcz670uz02cq9s2kv4"
)

EXAMPLES: Final[Mapping[str, Any]] = {
    "NewJob": {"request": "Write a haiku about fees."},
    "JobCreated": {
        "jobId": _JOB_ID,
        "state": "awaiting_eval_payment",
        "evalInvoice": _EVAL_INVOICE,
        "notice": "The evaluation costs 10 sats, which are kept if the request is rejected; "
        "the work is priced after it and paid on its own.",
    },
    "JobStatus": {
        "jobId": _JOB_ID,
        "state": "complete",
        "createdAt": "2026-11-24T09:00:00.000Z",
        "updatedAt": "2026-11-24T09:00:12.000Z",
        "evalInvoice": _EVAL_INVOICE,
        "workInvoice": _WORK_INVOICE,
        "pricingBreakdown": {
            "model": "claude-sonnet-5-5",
            "estimatedInputTokens": 300,
            "estimatedOutputTokens": 500,
            "modelCostUsd": "0.0056",
            "infraCostUsd": "0.0005",
            "estimatedCostUsd": "0.0061",
            "marginPct": 40,
            "btcPriceUsd": "100000.00",
            "btcPriceSource": "coingecko",
            "btcPriceAt": "2026-11-24T08:59:30.000Z",
            "amountSats": 9,
        },
        "result": "Small sats in the stream, …",
        "costLedger": {
            "model": "claude-sonnet-5-5",
            "actualInputTokens": 100,
            "actualOutputTokens": 200,
            "totalTokens": 300,
            "cacheReadTokens": 0,
            "cacheWriteTokens": 0,
            "actualCostUsd": "0.0027",
            "chargedMsat": 3780,
            "paidMsat": 9000,
            "refundMsat": 5220,
        },
        "refund": {"owedMsat": 5220, "paidMsat": 0, "payableSats": 3, "state": "owed"},
    },
    "RefundOrder": {"paymentRequest": _INVOICE_OVER_3_SATS},
    "Deposit": {"amountSats": 1000},
    "NewSession": {"amountSats": 1000},
    "SessionOpened": {
        "sessionId": _SESSION_ID,
        "state": "awaiting_payment",
        "macaroon": "AgEIc2F0bWV0ZXICQgAA…",
        "depositInvoice": _DEPOSIT_INVOICE,
        "expiresAt": "2026-11-25T09:00:00.000Z",
    },
    "SessionStatus": {
        "sessionId": _SESSION_ID,
        "state": "active",
        "balanceMsat": 995780,
        "balanceSats": 995,
        "heldMsat": 0,
        "depositedMsat": 1000000,
        "spentMsat": 4220,
        "refund": {"owedMsat": 0, "paidMsat": 0, "payableSats": 985, "state": "none"},
        "expiresAt": "2026-11-25T09:00:05.000Z",
        "pendingInvoices": [],
    },
    "TopUpOpened": {"topUpInvoice": _DEPOSIT_INVOICE},
    "NewRequest": {"request": "Write a haiku about fees.", "maxTokens": 500},
    "RequestResult": {
        "requestId": REQUEST_ID,
        "state": "complete",
        "result": "Small sats in the stream, …",
        "model": "claude-sonnet-5-5",
        "maxTokens": 500,
        "stopReason": "end_turn",
        "costLedger": {
            "model": "claude-sonnet-5-5",
            "actualInputTokens": 100,
            "actualOutputTokens": 200,
            "totalTokens": 300,
            "cacheReadTokens": 0,
            "cacheWriteTokens": 0,
            "actualCostUsd": "0.003014",
            "evaluationCostUsd": "0.000314",
            "chargedMsat": 4220,
            "paidMsat": 9870,
            "refundMsat": 5650,
        },
        "debitedMsat": 4220,
        "balanceMsat": 995780,
        "balanceSats": 995,
    },
    "Ledger": {
        "entries": [
            {
                "seq": 1,
                "at": "2026-11-24T09:00:05.000Z",
                "kind": "deposit",
                "amountMsat": 1000000,
                "balanceMsat": 1000000,
                "paymentHash": _DEPOSIT_INVOICE["paymentHash"],
            },
            {
                "seq": 2,
                "at": "2026-11-24T09:00:09.000Z",
                "kind": "hold",
                "amountMsat": 9870,
                "balanceMsat": 990130,
                "requestId": REQUEST_ID,
                "spender": "researcher",
            },
        ]
    },
    "SignedReceipt": {
        "receipt": {
            "version": 1,
            "keyId": "JTtZ3XaKQ0v4m2uYkz0m1nHc0d8b3q2l5rW7oP9sXyE",
            "sessionId": _SESSION_ID,
            "requestId": REQUEST_ID,
            "state": "complete",
            "at": "2026-11-24T09:00:12.000Z",
            "requestSha256": "7d2a8f0c5b1e4d7a8036f1c0b3a2e5d48796a7b8c9d0e1f2031425364758697a",
            "answerSha256": "0b1a2c3d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6d7e8f9",
            "charges": [
                {
                    "step": "work",
                    "model": "claude-sonnet-5-5",
                    "inputTokens": 100,
                    "outputTokens": 200,
                    "cacheReadTokens": 0,
                    "cacheWrite5mTokens": 0,
                    "cacheWrite1hTokens": 0,
                    "rates": {
                        "input": "2.00",
                        "output": "10.00",
                        "cacheRead": "0.1",
                        "cacheWrite5m": "2.5",
                        "cacheWrite1h": "4.00",
                    },
                    "costUsd": "0.0022",
                    "provider": {
                        "requestId": "req_011CSHoEeqs5C35K2UUqR7Fy",
                        "usage": ['{"input_tokens":100,"output_tokens":200}'],
                    },
                }
            ],
            "infraCostUsd": "0.0005",
            "costUsd": "0.0027",
            "marginPct": 40,
            "btcPriceUsd": "100000.00",
            "btcPriceSource": "coingecko",
            "btcPriceAt": "2026-11-24T08:59:30.000Z",
            "chargedMsat": 3780,
            "limitMsat": 9870,
            "ledgerSeq": 3,
        },
        "jws": "eyJhbGciOiJFZERTQSIsImp3ayI6…",
    },
    "CloseOrder": {"paymentRequest": _INVOICE_OVER_985_SATS},
    "StubAmount": {"amountSats": 985},
    "Invoice": _DEPOSIT_INVOICE,
    "DemoResult": {"result": "A satoshi is a hundred-millionth of a bitcoin."},
    "Health": {"status": "ok"},
    "Ready": {"status": "ready", "checks": {"store": "ok", "actors": "ok", "lightning": "ok"}},
    "Paid": {"paid": True, "preimage": "07" * 32},
    "ResponsesRequest": {
        "model": "claude-sonnet-5-5",
        "instructions": "Be brief.",
        "input": "Write a haiku about fees.",
        "max_output_tokens": 500,
    },
    "InputTokensRequest": {"model": "claude-sonnet-5-5", "input": "Write a haiku about fees."},
    "InputTokens": {"object": "response.input_tokens", "input_tokens": 14},
    "ResponseResource": {
        "id": "resp_01XFDUDYJgAACzvnptvVoYEL",
        "object": "response",
        "created_at": 1795514400,
        "status": "completed",
        "error": None,
        "incomplete_details": None,
        "model": "claude-sonnet-5-5",
        "output": [
            {
                "id": "msg_01XFDUDYJgAACzvnptvVoYEL_0",
                "type": "message",
                "status": "completed",
                "role": "assistant",
                "content": [
                    {
                        "type": "output_text",
                        "text": "Small toll at the bridge,\nthe river does not notice;\nthe walker pays, smiles.",
                        "annotations": [],
                        "logprobs": [],
                    }
                ],
            }
        ],
        "store": False,
        "usage": {
            "input_tokens": 14,
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": 24,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": 38,
            "cost_msat": 1076,
            "cost_usd": "0.000768",
            "balance_msat": 998924,
        },
    },
}
