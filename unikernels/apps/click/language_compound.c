/* What defines something: elementclass and the bodies of compound elements, define, require. The rest is language.c's. */
#include "arguments_split.h"
#include "reader.h"

/* "$a, $b, KEY $c |": nothing is taken when there is no variable. */
static bool read_formals(struct reader *reader, struct scope *scope) {
  struct formal **last = &scope->formals;
  struct token token = lexer_peek(&reader->lexer);
  if (token.kind == TOKEN_SIGN && token.text.at[0] == '|') {
    lexer_next(&reader->lexer);
    return true;
  }
  /* A keyword is a name before a variable, so the first one is not told from an element's name by itself. */
  struct lexer before = reader->lexer;
  bool keyword = token.kind == TOKEN_NAME;
  if (keyword) {
    lexer_next(&reader->lexer);
    keyword = lexer_peek(&reader->lexer).kind == TOKEN_VARIABLE;
    reader->lexer = before;
  }
  if (token.kind != TOKEN_VARIABLE && !keyword) return true;
  do {
    struct formal *formal = memory_take(reader->memory, sizeof *formal);
    if (formal == NULL) return reader_no_memory(reader);
    token = lexer_next(&reader->lexer);
    if (token.kind == TOKEN_NAME) {
      formal->keyword = token.text;
      formal->is_rest = slice_equal(token.text, SLICE("__REST__"));
      token = lexer_next(&reader->lexer);
    }
    if (token.kind != TOKEN_VARIABLE) return reader_fail(reader, token, "a parameter");
    formal->name = token.text;
    for (const struct formal *other = scope->formals; other != NULL; other = other->next) {
      if (slice_equal(other->name, token.text)) return errors_add(reader->errors, token.place, "parameter $%.*s twice", (int)token.text.length, token.text.at);
    }
    *last = formal;
    last = &formal->next;
  } while (lexer_accept(&reader->lexer, ','));
  return lexer_accept(&reader->lexer, '|') || reader_fail(reader, lexer_next(&reader->lexer), "'|' behind the parameters");
}

/* Behind '{', up to and with '}'. */
bool reader_compound(struct reader *reader, struct scope *outer, struct slice name, struct place place, struct compound **result) {
  struct compound **last = result;
  if (reader->depth == COMPOUND_DEPTH_MAX) return errors_add(reader->errors, place, "more than %u compound elements in one another", COMPOUND_DEPTH_MAX);
  reader->depth++;
  *result = NULL;
  bool sound = true;
  do {
    struct compound *compound = memory_take(reader->memory, sizeof *compound);
    if (compound == NULL) return reader_no_memory(reader);
    compound->name = name;
    compound->place = place;
    compound->scope.outer = outer;
    compound->scope.input = reader_declare(reader, &compound->scope, SLICE("input"), place);
    compound->scope.output = reader_declare(reader, &compound->scope, SLICE("output"), place);
    if (compound->scope.output == NULL || compound->scope.input == NULL) return false;
    *last = compound;
    last = &compound->other;
    if (!read_formals(reader, &compound->scope)) sound = false;
    if (!reader_scope(reader, &compound->scope, true)) sound = false;
  } while (lexer_accept_kind(&reader->lexer, TOKEN_BARS));
  reader->depth--;
  if (!lexer_accept(&reader->lexer, '}')) return reader_fail(reader, lexer_next(&reader->lexer), "'}'");
  return sound;
}

/* "elementclass NAME { ... }" or "elementclass NAME OTHER". */
bool reader_elementclass(struct reader *reader, struct scope *scope) {
  struct token name = lexer_next(&reader->lexer);
  if (name.kind != TOKEN_NAME) return reader_fail(reader, name, "the name of an element class");
  if (!reader_check_name(reader, name)) return false;
  struct named_class *class = memory_take(reader->memory, sizeof *class);
  if (class == NULL) return reader_no_memory(reader);
  class->name = name.text;
  struct token token = lexer_next(&reader->lexer);
  bool sound = true;
  if (token.kind == TOKEN_SIGN && token.text.at[0] == '{') {
    sound = reader_compound(reader, scope, name.text, name.place, &class->of.compound);
    if (class->of.compound == NULL) return false;
  } else if (token.kind != TOKEN_NAME) {
    return reader_fail(reader, token, "'{' or an element class");
  } else if (!reader_find_class(scope, token.text, &class->of)) {
    return errors_add(reader->errors, token.place, "unknown element class '%.*s'", (int)(token.text.length < 60 ? token.text.length : 60), token.text.at);
  }
  class->next = scope->classes;
  scope->classes = class;
  return sound;
}

/* "define($a 1, $b 2)" */
bool reader_define(struct reader *reader, struct scope *scope) {
  struct slice config;
  struct place place;
  struct argument all[32];
  if (!lexer_accept(&reader->lexer, '(')) return reader_fail(reader, lexer_next(&reader->lexer), "'('");
  if (!lexer_config(&reader->lexer, &config, &place)) return false;
  int count = arguments_split(config, place, all, sizeof all / sizeof *all);
  if (count < 0) return errors_add(reader->errors, place, "more than 32 definitions at once");
  for (int i = 0; i < count; i++) {
    struct slice text = all[i].text, name;
    struct definition *definition = memory_take(reader->memory, sizeof *definition);
    if (definition == NULL) return reader_no_memory(reader);
    if (!parse_word(&text, &name) || name.length < 2 || name.at[0] != '$') return errors_add(reader->errors, all[i].place, "a definition is '$NAME VALUE'");
    definition->name = slice_from(name, 1);
    while (text.length > 0 && (text.at[0] == ' ' || text.at[0] == '\t' || text.at[0] == '\n' || text.at[0] == '\r')) text = slice_from(text, 1);
    definition->value = text;
    definition->next = scope->definitions;
    scope->definitions = definition;
  }
  return true;
}

bool reader_require(struct reader *reader) {
  struct slice config;
  struct place place;
  if (!lexer_accept(&reader->lexer, '(')) return reader_fail(reader, lexer_next(&reader->lexer), "'('");
  return lexer_config(&reader->lexer, &config, &place);
}
