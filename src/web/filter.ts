/**
 * The filter box: words that must all be found, in any field, or in one with "host:a". A word that begins with "-" must not be
 * found. Pure.
 */

export interface Term {
  /** Undefined: any. */
  field: string | undefined;
  word: string;
  not: boolean;
}

const maxTerms = 16;

export function parseFilter(text: string): Term[] {
  return text
    .toLowerCase()
    .split(/\s+/)
    .filter((word) => word !== '' && word !== '-')
    .slice(0, maxTerms)
    .map((given) => {
      const not = given.startsWith('-');
      const word = not ? given.slice(1) : given;
      const m = /^([a-z]+):(.*)$/.exec(word);
      return m === null ? { field: undefined, word, not } : { field: m[1]!, word: m[2]!, not };
    });
}

/** `fields`: name to value; a field that is not there has no match. */
export function matches(terms: readonly Term[], fields: Record<string, string>): boolean {
  return terms.every(({ field, word, not }) => {
    const found =
      field === undefined
        ? Object.values(fields).some((value) => value.toLowerCase().includes(word))
        : Object.hasOwn(fields, field) && fields[field]!.toLowerCase().includes(word);
    return found !== not;
  });
}
