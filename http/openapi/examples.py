"""Examples of bodies, by the name of their schema, for the OpenAPI document. A test validates them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

REQUEST_ID: Final = "req_Zk3vD0cQm1u9Hq7sT2xW5A"
_JOB_ID: Final = "job_q9A7nT1bX5cV3mK8sJ2dL6fH0gR4wE-y"
_SESSION_ID: Final = "ses_m4Zr8Qw1Lk7Tz0Xc5Vb9Ny2Hj6Gf3D-s"
_EVAL_INVOICE: Final = {
    "paymentRequest": "lnbc100n1p5…",
    "paymentHash": "9f2c5b1e4d7a8036f1c0b3a2e5d48796a7b8c9d0e1f20314253647586970a1b2",
    "amountSats": 10,
    "expiresAt": "2026-11-24T10:00:00.000Z",
}
_WORK_INVOICE: Final = {
    "paymentRequest": "lnbc90n1p5…",
    "paymentHash": "0b1a2c3d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6d7e8f9",
    "amountSats": 9,
    "expiresAt": "2026-11-24T10:00:07.000Z",
}
_DEPOSIT_INVOICE: Final = {
    "paymentRequest": "lnbc10u1p5…",
    "paymentHash": "c4d5e6f708192a3b4c5d6e7f8091a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3",
    "amountSats": 1000,
    "expiresAt": "2026-11-24T10:00:00.000Z",
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
