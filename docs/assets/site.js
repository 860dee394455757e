// Loaded in the head, before the theme.

// The theme's search asks a worker {type: 2, data: query}, which answers {type: 3, data: {items}}, a list of sections a page.
window.Worker = class extends Worker {
  constructor(...parameters) {
    super(...parameters)
    this.addEventListener('message', ({ data: { type, data } }) => {
      if (type !== 3) return
      // The index has both languages; a reader searches in one.
      const english = document.documentElement.lang === 'en'
      data.items = data.items.filter(([section]) => section.location.startsWith('en/') === english)
      for (const { title, text, terms } of data.items.flat())
        for (const term in terms) terms[term] ||= `${title} ${text}`.includes(term) // else the theme calls it missing
    })
  }

  postMessage(message, ...rest) {
    if (message.type === 2) {
      const query = message.data
        .replace(/(?<!\S)--(?=\w)/g, '') // of an option; a minus excludes a word
        // Korean has compounds without blanks, code long names: they are found by any of their parts (조정 in 미세조정).
        .replace(/(?<![^\s+-])(?=\p{Script=Hangul}{2}|\w*_)/gu, '*')
      message = { ...message, data: query }
    }
    super.postMessage(message, ...rest)
  }
}

// Korean first, for readers of Korean: others who come to the first page from elsewhere get the English one.
const base = new URL('..', document.currentScript.src)
const atHome = location.pathname === base.pathname || location.pathname === `${base.pathname}index.html`
const fromHere = document.referrer.startsWith(base.href)
if (atHome && !fromHere && !location.search && !navigator.languages.some(language => /^ko\b/i.test(language)))
  location.replace(new URL('en/', base))
