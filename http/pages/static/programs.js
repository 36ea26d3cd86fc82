// Lines to paste, by which programs of others use a session. Tests run them with the programs themselves.

export function programs({ origin, key, model, smallModel }) {
  return [
    ["Claude Code", `export ANTHROPIC_BASE_URL=${origin} ANTHROPIC_AUTH_TOKEN='${key}'
export ANTHROPIC_MODEL=${model} ANTHROPIC_DEFAULT_HAIKU_MODEL=${smallModel}
claude`],
    ["Codex", `export SATMETER_KEY='${key}'
codex -c 'model="${model}"' -c model_provider=satmeter \\
  -c 'model_providers.satmeter={name="Satmeter", base_url="${origin}/v1", env_key="SATMETER_KEY", wire_api="responses"}'`],
    ["OpenAI\u2019s SDK", `from openai import OpenAI

client = OpenAI(base_url="${origin}/v1", api_key="${key}")
answer = client.chat.completions.create(
    model="${model}", max_tokens=500, messages=[{"role": "user", "content": "What is a satoshi?"}]
)
print(answer.choices[0].message.content)`],
    ["Anthropic\u2019s SDK", `from anthropic import Anthropic

client = Anthropic(base_url="${origin}", auth_token="${key}")
answer = client.messages.create(
    model="${model}", max_tokens=500, messages=[{"role": "user", "content": "What is a satoshi?"}]
)
print(answer.content[0].text)`],
    ["Other programs", `export OPENAI_BASE_URL=${origin}/v1 OPENAI_API_KEY='${key}'`],
  ];
}
