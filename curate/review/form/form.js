'use strict';

// Texts of models reach the page through textContent only; the policy in the head forbids every request and script
// but this one.
const head = JSON.parse(document.getElementById('head').textContent);
// One line a record, parsed when it is shown: 20,000 records open as fast as 20.
const lines = document.getElementById('records').textContent.trim().split('\n').filter(Boolean);
const ids = head.ids;
const answers = new Map();
const unsaved = new Set();
const undone = [];
let person = '';
let at = 0;
let wholeConversation = false;

const find = (id) => document.getElementById(id);
const BLANK = {better: null, sure: null, wrong: [], note: ''};
const TURNS_SHOWN = 3;
const SURE_KEYS = ['Q', 'W', 'E'];

function storageOrNull() {
  try {
    localStorage.setItem('pairwright', '');
    localStorage.removeItem('pairwright');
    return localStorage;
  } catch {
    return null;
  }
}

let storage = storageOrNull();

function lostStorage() {
  storage = null;
  find('warning').textContent = 'This browser keeps nothing for this page: save the answers before you close it.';
  find('warning').hidden = false;
}

const place = (...rest) => JSON.stringify(['pairwright', head.review, ...rest]);
const whose = (name) => name.trim().toLowerCase();

function keep(key, value) {
  if (!storage) return;
  try {
    storage.setItem(key, value);
  } catch {
    lostStorage();
  }
}

// What a person has said

function load() {
  answers.clear();
  unsaved.clear();
  undone.length = 0;
  if (!storage) return;
  const saved = storage.getItem(place(whose(person), 'saved')) ?? '';
  for (const id of ids) take(id, storage.getItem(place(whose(person), 'answer', id)), saved);
}

function take(id, text, saved) {
  if (!text) return;
  const answer = JSON.parse(text);
  answers.set(id, answer);
  if (answer.answered_at > saved) unsaved.add(id);
}

function put(id, answer) {
  answers.set(id, {...answer, answered_at: new Date().toISOString()});
  unsaved.add(id);
  keep(place(whose(person), 'answer', id), JSON.stringify(answers.get(id)));
  draw();
}

function change(what) {
  const id = ids[at];
  const before = answers.get(id) ?? BLANK;
  const last = undone.at(-1);
  // A note is undone as a whole, not letter by letter.
  if (!('note' in what && last && last.id === id && last.isNote)) undone.push({id, before, isNote: 'note' in what});
  put(id, {...before, ...what});
}

function undo() {
  const last = undone.pop();
  if (!last) return;
  at = ids.indexOf(last.id);
  put(last.id, last.before);
  showRecord();
}

const isJudged = (id) => Boolean(answers.get(id)?.better);

// Going about

function go(to) {
  if (to < 0 || to >= ids.length) return;
  at = to;
  showRecord();
}

function next() {
  for (let step = 1; step <= ids.length; step++) {
    const to = (at + step) % ids.length;
    if (!isJudged(ids[to])) return go(to);
  }
  if (unsaved.size) save();
}

function save() {
  const said = ids.filter((id) => answers.has(id)).map((id) => {
    const {better, sure, wrong, note, answered_at} = answers.get(id);
    const line = {review: head.review, record: id, reviewer: person, better, sure, wrong, note, answered_at};
    return JSON.stringify(line) + '\n';
  });
  const link = document.createElement('a');
  link.href = URL.createObjectURL(new Blob(said, {type: 'application/jsonl'}));
  link.download = `${head.review}-${person}`.replace(/[^\p{L}\p{N}._-]+/gu, '-') + '.jsonl';
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
  unsaved.clear();
  keep(place(whose(person), 'saved'), new Date().toISOString());
  draw();
}

// What is seen

function show(box, text) {
  box.replaceChildren();
  // Blocks between fences stand in a fixed width; not a character is left out.
  text.split(/(^ *```[^\n]*\n[\s\S]*?(?:^ *```[^\n]*$|(?![\s\S])))/m).forEach((part, i) => {
    // the end of the line that the block ends itself
    const said = i && i % 2 === 0 ? part.replace(/^\n/, '') : part;
    if (!said) return;
    const element = document.createElement('div');
    element.className = i % 2 ? 'part code' : 'part';
    element.dir = 'auto';
    element.textContent = said;
    box.append(element);
  });
}

function showRecord() {
  wholeConversation = false;
  const record = JSON.parse(lines[at]);
  showConversation(record.messages);
  for (const side of ['a', 'b']) {
    const box = document.querySelector(`[data-side="${side}"] .text`);
    show(box, record[`response_${side}`]);
    box.scrollTop = 0;
  }
  find('position').textContent = `Record ${(at + 1).toLocaleString('en')} of ${ids.length.toLocaleString('en')}`;
  find('back').disabled = at === 0;
  find('forward').disabled = at === ids.length - 1;
  if (innerWidth <= 760) scrollTo(0, 0);
  draw();
}

function showConversation(messages) {
  const box = find('conversation');
  box.replaceChildren();
  const hidden = wholeConversation || messages.length <= TURNS_SHOWN ? 0 : messages.length - TURNS_SHOWN;
  if (hidden) {
    const button = document.createElement('button');
    button.id = 'earlier';
    button.textContent = `Show all: ${hidden} earlier turn${hidden > 1 ? 's' : ''}`;
    button.addEventListener('click', showWhole);
    box.append(button);
  }
  for (const message of messages.slice(hidden)) {
    const turn = document.createElement('div');
    turn.className = message.role === 'user' ? 'turn user' : 'turn';
    const role = document.createElement('div');
    role.className = 'role';
    role.textContent = message.role[0].toUpperCase() + message.role.slice(1);
    const said = document.createElement('div');
    said.className = 'said';
    show(said, message.content);
    turn.append(role, said);
    box.append(turn);
  }
  box.scrollTop = 0;
}

function showWhole() {
  wholeConversation = true;
  showConversation(JSON.parse(lines[at]).messages);
}

function draw() {
  const answer = answers.get(ids[at]) ?? BLANK;
  const count = ids.filter(isJudged).length;
  for (const [box, isOn] of [
    ['better', (name) => answer.better === name],
    ['sure', (name) => String(answer.sure) === name],
    ['wrong', (name) => answer.wrong.includes(name)],
  ]) {
    for (const button of find(box).children) button.setAttribute('aria-pressed', isOn(button.dataset.name));
  }
  for (const side of document.querySelectorAll('.response')) {
    side.classList.toggle('is-better', side.dataset.side === answer.better);
  }
  if (document.activeElement !== find('note')) find('note').value = answer.note;
  find('flaw-count').textContent = answer.wrong.length ? String(answer.wrong.length) : '';
  const isDone = count === ids.length;
  const counted = `${count.toLocaleString('en')} of ${ids.length.toLocaleString('en')} judged`;
  find('judged').textContent = isDone ? `All ${ids.length.toLocaleString('en')} judged` : counted;
  find('bar').style.width = `${(100 * count) / ids.length}%`;
  const done = unsaved.size ? 'Save answers' : 'All saved: send the file back';
  find('next-words').textContent = isDone ? done : answer.better ? 'Next' : 'Skip';
  find('next').classList.toggle('strong', isDone || Boolean(answer.better));
  find('who').textContent = person;
  find('unsaved').textContent = unsaved.size ? `${unsaved.size.toLocaleString('en')} new` : '';
  find('save').classList.toggle('strong', unsaved.size > 0);
}

// Who judges

function ask() {
  find('about').textContent =
    `${ids.length.toLocaleString('en')} records of "${head.review}". Your answers stay in this browser until you ` +
    'save them to a file and send that file back. Your name is turned into a code when the file is read.';
  find('name').value = person;
  find('begin').textContent = person ? 'Somebody else judges now' : 'Begin';
  find('correct').hidden = find('cancel').hidden = !person;
  if (!find('ask').open) find('ask').showModal();
  find('name').select();
}

function begin(name) {
  if (!name.trim()) return find('name').focus();
  person = name.trim();
  keep(place('person'), person);
  load();
  find('ask').close();
  const first = ids.findIndex((id) => !isJudged(id));
  go(first < 0 ? 0 : first);
}

function correct(name) {
  if (!name.trim()) return find('name').focus();
  const former = person;
  person = name.trim();
  keep(place('person'), person);
  for (const [id, answer] of answers) {
    if (whose(former) !== whose(person)) storage?.removeItem(place(whose(former), 'answer', id));
    keep(place(whose(person), 'answer', id), JSON.stringify(answer));
    unsaved.add(id);
  }
  storage?.removeItem(place(whose(person), 'saved'));
  find('ask').close();
  draw();
}

// Keys and buttons

function toggleFlaw(name) {
  const {wrong} = answers.get(ids[at]) ?? BLANK;
  change({wrong: wrong.includes(name) ? wrong.filter((other) => other !== name) : [...wrong, name]});
}

function toggleSure(sure) {
  change({sure: answers.get(ids[at])?.sure === sure ? null : sure});
}

function toggleFlaws() {
  const box = find('wrong');
  box.hidden = !box.hidden;
  find('show-flaws').setAttribute('aria-expanded', String(!box.hidden));
  if (!box.hidden) box.firstElementChild.focus();
}

function scrollBoth(by) {
  if (innerWidth <= 760) return scrollBy(0, by);
  for (const box of document.querySelectorAll('.text')) box.scrollBy(0, by);
}

const KEYS = {
  Enter: next,
  ArrowLeft: () => go(at - 1),
  ArrowRight: () => go(at + 1),
  ArrowUp: () => scrollBoth(-80),
  ArrowDown: () => scrollBoth(80),
  Backspace: () => answers.has(ids[at]) && change(BLANK),
  q: () => toggleSure(1),
  w: () => toggleSure(2),
  e: () => toggleSure(3),
  u: undo,
  f: toggleFlaws,
  n: () => find('note').focus(),
  c: showWhole,
  s: save,
  Escape: () => document.activeElement.blur(),
};

function pressed(event) {
  if (find('ask').open || event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
  const target = event.target;
  if (target === find('note')) {
    if (event.key === 'Escape' || (event.key === 'Enter' && !event.shiftKey)) {
      event.preventDefault();
      target.blur();
      if (event.key === 'Enter') next();
    }
    return;
  }
  // A button that was reached with Tab is pressed by Enter, and a text by itself scrolls by the arrows.
  if (event.key === 'Enter' && target.closest('button')) return;
  if (event.key.startsWith('Arrow') && !/Left|Right/.test(event.key) && target.closest('.text, #conversation')) return;
  if (event.repeat && !event.key.startsWith('Arrow')) return;
  // The row of digits is found by its place: some layouts have other signs there.
  const digit = /^(?:Digit|Numpad)([1-4])$/.exec(event.code);
  const choose = () => change({better: head.better[digit[1] - 1].name});
  const run = digit ? choose : KEYS[event.key] ?? KEYS[event.key.toLowerCase()];
  if (!run) return;
  event.preventDefault();
  run();
}

function addButtons(box, choices, keys, run) {
  choices.forEach(({name, words}, i) => {
    const button = document.createElement('button');
    button.dataset.name = name;
    if (keys) {
      const key = document.createElement('kbd');
      key.textContent = keys[i];
      button.append(key, ' ');
    }
    button.append(words);
    button.addEventListener('click', () => run(name));
    find(box).append(button);
  });
}

addButtons('better', head.better, ['1', '2', '3', '4'], (name) => change({better: name}));
addButtons('sure', head.sure, SURE_KEYS, (name) => toggleSure(Number(name)));
addButtons('wrong', head.wrong, null, toggleFlaw);
find('back').addEventListener('click', () => go(at - 1));
find('forward').addEventListener('click', () => go(at + 1));
find('next').addEventListener('click', next);
find('save').addEventListener('click', save);
find('who').addEventListener('click', ask);
find('show-flaws').addEventListener('click', toggleFlaws);
find('begin').addEventListener('click', () => begin(find('name').value));
find('correct').addEventListener('click', () => correct(find('name').value));
find('cancel').addEventListener('click', () => find('ask').close());
find('name').addEventListener('keydown', (event) => {
  if (event.key !== 'Enter' || event.isComposing) return;
  // It would go on to the next record, with the dialog closed by then.
  event.stopPropagation();
  (person ? correct : begin)(find('name').value);
});
find('ask').addEventListener('cancel', (event) => person || event.preventDefault());
find('note').addEventListener('input', () => change({note: find('note').value}));
document.addEventListener('keydown', pressed);
// After a click Enter means "next" again; detail is 0 where the button was pressed by a key.
document.addEventListener('click', (event) => {
  if (event.detail) event.target.closest('footer button, header button')?.blur();
});
// The same form in another tab
addEventListener('storage', (event) => {
  const id = ids.find((known) => event.key === place(whose(person), 'answer', known));
  if (id && event.newValue) {
    take(id, event.newValue, '');
    draw();
  }
});
addEventListener('beforeunload', (event) => {
  if (!storage && unsaved.size) event.preventDefault();
});

document.title = `Review of ${head.review}`;
if (!storage) lostStorage();
const known = storage?.getItem(place('person'));
known ? begin(known) : (showRecord(), ask());
