// Jobs that this browser knows. The id of a job is its only key: it is kept here, and never in a request to another host.

const KEPT = "satmeter.jobs";
// A job that is left out is lost, with what it owes. Texts take the room, and matter least.
const JOBS_MAX = 2000;
const TEXTS_MAX = 20;
const TEXT_MAX = 8000;
const ID = /^job_[A-Za-z0-9_-]{32}$/;

export const isJobId = (text) => ID.test(text);

export function jobs() {
  const found = new Map();
  for (const storage of [() => sessionStorage, () => localStorage]) {
    for (const job of read(storage)) if (!found.has(job.id)) found.set(job.id, job);
  }
  return [...found.values()].sort((one, other) => other.at - one.at);
}

export const known = (id) => jobs().find((job) => job.id === id);

// Says whether this browser keeps it beyond the tab.
export function keep(id, { text = "", here = true } = {}) {
  // A text that is too long is left out whole: a part of it would be sent again as if it were all.
  const job = { id, text: text.length > TEXT_MAX ? "" : text, title: text.slice(0, 120), at: Date.now() };
  // This tab has it in any case, so that a reload loses no money.
  write(() => sessionStorage, [job, ...read(() => sessionStorage).filter((other) => other.id !== id)]);
  return here && write(() => localStorage, [job, ...read(() => localStorage).filter((other) => other.id !== id)]);
}

export function forget(id) {
  for (const storage of [() => sessionStorage, () => localStorage]) {
    write(storage, read(storage).filter((job) => job.id !== id));
  }
}

function read(storage) {
  // Storage may be off, or hold something else.
  try {
    const kept = JSON.parse(storage().getItem(KEPT));
    return Array.isArray(kept) ? kept.filter((job) => isJobId(job?.id)) : [];
  } catch {
    return [];
  }
}

function write(storage, list) {
  try {
    const kept = list.slice(0, JOBS_MAX).map((job, index) => (index < TEXTS_MAX ? job : { ...job, text: "" }));
    if (kept.length) storage().setItem(KEPT, JSON.stringify(kept));
    else storage().removeItem(KEPT);
    return true;
  } catch {
    // The page goes on without.
    return false;
  }
}
