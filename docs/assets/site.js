// Loaded in the head, before the theme.

// Korean has compounds without blanks: the search finds a Hangul word inside words (조정 in 미세조정), too.
// The theme's worker takes {type: 2, data: query} and answers {type: 3, data: {items}}.
window.Worker = class extends Worker {
  constructor(...parameters) {
    super(...parameters)
    this.addEventListener('message', ({ data: { type, data } }) => {
      if (type !== 3) return
      for (const { title, text, terms } of data.items.flat())
        for (const term in terms) terms[term] ||= `${title} ${text}`.includes(term) // else the theme calls it missing
    })
  }

  postMessage(message, ...rest) {
    if (message.type === 2)
      message = { ...message, data: message.data.replace(/(?<![^\s+-])(?=\p{Script=Hangul}{2})/gu, '*') }
    super.postMessage(message, ...rest)
  }
}

// Korean first, for readers of Korean: others who come to the first page from elsewhere get the English one.
const base = new URL('..', document.currentScript.src)
const atHome = location.pathname === base.pathname || location.pathname === `${base.pathname}index.html`
const fromHere = document.referrer.startsWith(base.href)
if (atHome && !fromHere && !location.search && !navigator.languages.some(language => /^ko\b/i.test(language)))
  location.replace(new URL('en/', base))
