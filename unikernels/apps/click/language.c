/* See language.h. After a mistake reading goes on behind the next semicolon, so that several are told at once. */
#include "reader.h"
#include "own_words.h"

#define BUCKETS 1024u

bool reader_fail(struct reader *reader, struct token token, const char *wanted) {
  if (token.kind == TOKEN_BAD) return false; /* told */
  if (token.kind == TOKEN_END) return errors_add(reader->errors, token.place, "the configuration ends where %s should be", wanted);
  return errors_add(reader->errors, token.place, "'%.*s' where %s should be", (int)(token.text.length < 40 ? token.text.length : 40), token.text.at, wanted);
}

bool reader_no_memory(struct reader *reader) { return errors_add(reader->errors, reader->lexer.place, "no memory for the configuration"); }

/* ---- names ---- */

static uint32_t hash(const struct scope *scope, struct slice name) {
  uint32_t value = 2166136261u ^ (uint32_t)((uintptr_t)scope >> 4);
  for (size_t i = 0; i < name.length; i++) value = (value ^ (uint8_t)name.at[i]) * 16777619u;
  return value % BUCKETS;
}

static struct declared *find(struct reader *reader, const struct scope *scope, struct slice name) {
  struct declared *one = reader->buckets[hash(scope, name)];
  while (one != NULL && !(one->scope == scope && slice_equal(one->name, name))) one = one->same_hash;
  return one;
}

bool reader_find_class(const struct scope *scope, struct slice name, struct class_ref *of) {
  for (; scope != NULL; scope = scope->outer) {
    for (const struct named_class *class = scope->classes; class != NULL; class = class->next) {
      if (!slice_equal(class->name, name)) continue;
      *of = class->of;
      return true;
    }
  }
  *of = (struct class_ref){element_class_find(name), NULL};
  return of->class != NULL;
}

/* A new element of the scope; NULL when there is no memory. */
struct declared *reader_declare(struct reader *reader, struct scope *scope, struct slice name, struct place place) {
  struct declared *one = memory_take(reader->memory, sizeof *one);
  if (one == NULL) {
    reader_no_memory(reader);
    return NULL;
  }
  struct declared **bucket = &reader->buckets[hash(scope, name)];
  *one = (struct declared){.name = name, .place = place, .config = SLICE(""), .config_place = place, .index = scope->count++, .scope = scope, .same_hash = *bucket};
  *bucket = one;
  if (scope->last == NULL) scope->first = one;
  else scope->last->next = one;
  scope->last = one;
  return one;
}

static struct declared *declare_anonymous(struct reader *reader, struct scope *scope, struct slice class, struct place place) {
  struct declared *one;
  char *name;
  /* "Class@N", the first N from the number of elements on that nobody has. */
  for (uint32_t number = scope->count + 1;; number++) {
    char digits[12];
    size_t count = shoal_format(digits, sizeof digits, "@%u", number);
    name = memory_take(reader->memory, class.length + count + 1);
    if (name == NULL) {
      reader_no_memory(reader);
      return NULL;
    }
    memcpy(name, class.at, class.length);
    memcpy(name + class.length, digits, count);
    struct slice whole = {name, class.length + count};
    if (find(reader, scope, whole) != NULL) continue;
    one = reader_declare(reader, scope, whole, place);
    return one;
  }
}

/* A name that may be an element's. */
bool reader_check_name(struct reader *reader, struct token token) {
  bool letters = false;
  for (size_t i = 0; i < token.text.length; i++) letters |= !slice_is_digit(token.text.at[i]);
  char last = token.text.at[token.text.length - 1];
  if (!letters) return errors_add(reader->errors, token.place, "a name with digits only");
  if (token.text.at[0] == '/' || last == '/') return errors_add(reader->errors, token.place, "a name cannot begin or end with '/'");
  if (token.text.length > ELEMENT_NAME_BYTES_MAX) return errors_add(reader->errors, token.place, "a name of more than %u bytes", ELEMENT_NAME_BYTES_MAX);
  return true;
}

/* ---- elements ---- */

/* "Class" or "{ ... }", then perhaps "(...)". */
static bool read_class(struct reader *reader, struct scope *scope, struct class_ref *of, struct slice *config, struct place *config_place) {
  struct token token = lexer_next(&reader->lexer);
  *config = SLICE("");
  *config_place = token.place;
  if (token.kind == TOKEN_SIGN && token.text.at[0] == '{') {
    if (!reader_compound(reader, scope, SLICE(""), token.place, &of->compound)) return false;
    of->class = NULL;
  } else if (token.kind != TOKEN_NAME) {
    return reader_fail(reader, token, "an element class");
  } else if (!reader_find_class(scope, token.text, of)) {
    return errors_add(reader->errors, token.place, "unknown element class '%.*s'", (int)(token.text.length < 60 ? token.text.length : 60), token.text.at);
  }
  if (lexer_accept(&reader->lexer, '(')) return lexer_config(&reader->lexer, config, config_place);
  return true;
}

static bool set_class(struct reader *reader, struct declared *one, struct token token, struct class_ref of, struct slice config, struct place config_place) {
  if (one->of.class != NULL || one->of.compound != NULL || one == one->scope->input || one == one->scope->output) {
    return errors_add(reader->errors, token.place, "'%.*s' is declared already, at %u:%u", (int)token.text.length, token.text.at, one->place.line, one->place.column);
  }
  one->of = of;
  one->place = token.place;
  one->config = config;
  one->config_place = config_place;
  return true;
}

/* "a, b, c :: Class(...)": `first` was read, a comma is next. */
static bool read_list(struct reader *reader, struct scope *scope, struct token first) {
  struct token names[64];
  unsigned count = 1;
  struct class_ref of;
  struct slice config;
  struct place config_place;
  names[0] = first;
  while (lexer_accept(&reader->lexer, ',')) {
    struct token token = lexer_next(&reader->lexer);
    if (token.kind != TOKEN_NAME) return reader_fail(reader, token, "an element's name");
    if (count == sizeof names / sizeof *names) return errors_add(reader->errors, token.place, "more than %u names in a declaration", count);
    names[count++] = token;
  }
  if (!lexer_accept_kind(&reader->lexer, TOKEN_COLONS)) return reader_fail(reader, lexer_next(&reader->lexer), "'::' behind a list of names");
  if (!read_class(reader, scope, &of, &config, &config_place)) return false;
  for (unsigned i = 0; i < count; i++) {
    if (!reader_check_name(reader, names[i])) return false;
    struct declared *one = find(reader, scope, names[i].text);
    if (one == NULL) one = reader_declare(reader, scope, names[i].text, names[i].place);
    if (one == NULL || !set_class(reader, one, names[i], of, config, config_place)) return false;
  }
  return true;
}

/* An element of a connection: a name, a declaration, or a class without a name. NULL in *one after a list of declarations. */
static bool read_element(struct reader *reader, struct scope *scope, struct declared **one) {
  struct token token = lexer_peek(&reader->lexer);
  struct class_ref of = {NULL, NULL};
  struct slice config;
  struct place config_place;
  *one = NULL;
  if (token.kind == TOKEN_SIGN && token.text.at[0] == '{') {
    if (!read_class(reader, scope, &of, &config, &config_place)) return false;
    *one = declare_anonymous(reader, scope, SLICE(""), token.place);
    return *one != NULL && set_class(reader, *one, token, of, config, config_place);
  }
  if (token.kind != TOKEN_NAME) return reader_fail(reader, lexer_next(&reader->lexer), "an element");
  lexer_next(&reader->lexer);
  struct token behind = lexer_peek(&reader->lexer);
  if (behind.kind == TOKEN_SIGN && behind.text.at[0] == ',') return read_list(reader, scope, token);
  if (lexer_accept_kind(&reader->lexer, TOKEN_COLONS)) {
    if (!reader_check_name(reader, token) || !read_class(reader, scope, &of, &config, &config_place)) return false;
    *one = find(reader, scope, token.text);
    if (*one == NULL) *one = reader_declare(reader, scope, token.text, token.place);
    return *one != NULL && set_class(reader, *one, token, of, config, config_place);
  }
  *one = find(reader, scope, token.text);
  bool has_config = behind.kind == TOKEN_SIGN && behind.text.at[0] == '(';
  if (*one != NULL && !has_config) return true;
  if (*one == NULL && reader_find_class(scope, token.text, &of)) {
    config = SLICE(""), config_place = token.place;
    if (lexer_accept(&reader->lexer, '(') && !lexer_config(&reader->lexer, &config, &config_place)) return false;
    *one = declare_anonymous(reader, scope, token.text, token.place);
    return *one != NULL && set_class(reader, *one, token, of, config, config_place);
  }
  if (*one != NULL) return errors_add(reader->errors, behind.place, "'%.*s' is an element; its arguments belong to its declaration", (int)token.text.length, token.text.at);
  if (has_config) return errors_add(reader->errors, token.place, "unknown element class '%.*s'", (int)(token.text.length < 60 ? token.text.length : 60), token.text.at);
  if (!reader_check_name(reader, token)) return false;
  *one = reader_declare(reader, scope, token.text, token.place); /* its declaration is to come */
  return *one != NULL;
}

/* "[N]", when there is one. */
static bool read_port(struct reader *reader, uint32_t *port, bool *given) {
  uint64_t number;
  *port = 0;
  if (!lexer_accept(&reader->lexer, '[')) return true;
  struct token token = lexer_next(&reader->lexer);
  if (token.kind != TOKEN_NAME || !slice_number(token.text, ELEMENT_PORTS_MAX - 1, &number)) return reader_fail(reader, token, "a port's number (at most 4095)");
  if (!lexer_accept(&reader->lexer, ']')) return reader_fail(reader, lexer_next(&reader->lexer), "']'");
  *port = (uint32_t)number;
  *given = true;
  return true;
}

static bool connect(struct reader *reader, struct scope *scope, struct declared *from, uint32_t from_port, struct declared *to, uint32_t to_port, struct place place) {
  struct link *link = memory_take(reader->memory, sizeof *link);
  if (link == NULL) return reader_no_memory(reader);
  *link = (struct link){.from = from, .to = to, .from_port = from_port, .to_port = to_port, .place = place};
  if (from == scope->output && from != NULL) return errors_add(reader->errors, place, "nothing comes out of 'output'");
  if (to == scope->input && to != NULL) return errors_add(reader->errors, place, "nothing goes into 'input'");
  if (scope->last_link == NULL) scope->links = link;
  else scope->last_link->next = link;
  scope->last_link = link;
  return true;
}

/* "a [1] -> [0] b :: C -> D(x)" or a declaration. */
static bool read_chain(struct reader *reader, struct scope *scope) {
  struct declared *from = NULL, *to;
  uint32_t from_port = 0, to_port;
  struct token arrow = lexer_peek(&reader->lexer);
  for (;;) {
    bool port_before = false, port_behind = false;
    struct place place = lexer_peek(&reader->lexer).place;
    if (!read_port(reader, &to_port, &port_before) || !read_element(reader, scope, &to)) return false;
    if (to == NULL) { /* a list of declarations */
      if (from != NULL || port_before) return errors_add(reader->errors, place, "a list of declarations in a connection");
      return true;
    }
    if (from != NULL) {
      if (!connect(reader, scope, from, from_port, to, to_port, arrow.place)) return false;
    } else if (port_before) {
      return errors_add(reader->errors, place, "an input port at the start of a connection");
    }
    if (!read_port(reader, &from_port, &port_behind)) return false;
    arrow = lexer_peek(&reader->lexer);
    if (!lexer_accept_kind(&reader->lexer, TOKEN_ARROW)) return !port_behind || reader_fail(reader, arrow, "'->' behind an output port");
    from = to;
  }
}

/* ---- statements ---- */

/* To behind the next semicolon, or before the end of the scope. What is wrong on the way is not told: it may be a consequence. */
static void recover(struct reader *reader) {
  unsigned depth = 0;
  uint32_t told = reader->errors->count;
  for (;;) {
    struct token token = lexer_peek(&reader->lexer);
    char sign = token.kind == TOKEN_SIGN ? token.text.at[0] : '\0';
    struct slice config;
    struct place place;
    if (token.kind == TOKEN_END || (sign == '}' && depth == 0) || (token.kind == TOKEN_BARS && depth == 0)) break;
    lexer_next(&reader->lexer);
    if (sign == ';' && depth == 0) break;
    if (sign == '{') depth++;
    if (sign == '}') depth--;
    if (sign == '(') lexer_config(&reader->lexer, &config, &place);
  }
  reader->errors->count = told;
}

static bool read_statement(struct reader *reader, struct scope *scope) {
  struct token token = lexer_peek(&reader->lexer);
  if (token.kind == TOKEN_NAME) {
    bool is_class = slice_equal(token.text, SLICE("elementclass")), is_require = slice_equal(token.text, SLICE("require"));
    if (is_class || is_require || slice_equal(token.text, SLICE("define"))) {
      lexer_next(&reader->lexer);
      return is_class ? reader_elementclass(reader, scope) : is_require ? reader_require(reader) : reader_define(reader, scope);
    }
  }
  if (token.kind == TOKEN_DOTS) return reader_fail(reader, token, "a statement (Shoal does not extend compound elements)");
  if (!read_chain(reader, scope)) return false;
  token = lexer_peek(&reader->lexer);
  if (token.kind == TOKEN_END || token.kind == TOKEN_BARS || lexer_accept(&reader->lexer, ';')) return true;
  if (token.kind == TOKEN_SIGN && token.text.at[0] == '}') return true;
  /* Click lets a statement follow a declaration without a semicolon only at the end. */
  return reader_fail(reader, lexer_next(&reader->lexer), "';' or '->'");
}

bool reader_scope(struct reader *reader, struct scope *scope, bool is_compound) {
  bool sound = true;
  for (;;) {
    struct token token = lexer_peek(&reader->lexer);
    if (lexer_accept(&reader->lexer, ';')) continue;
    if (token.kind == TOKEN_END) break;
    if (is_compound && (token.kind == TOKEN_BARS || (token.kind == TOKEN_SIGN && token.text.at[0] == '}'))) break;
    uint32_t before = reader->errors->count;
    if (read_statement(reader, scope)) continue;
    sound = false;
    if (reader->errors->count == before) errors_add(reader->errors, token.place, "this means nothing here");
    /* A sign that nothing could take, such as a closing brace too many, is passed over. */
    if (lexer_peek(&reader->lexer).place.line == token.place.line && lexer_peek(&reader->lexer).place.column == token.place.column) lexer_next(&reader->lexer);
    recover(reader);
    if (!is_compound) lexer_accept(&reader->lexer, '}');
  }
  for (const struct declared *one = scope->first; one != NULL; one = one->next) {
    if (one->of.class != NULL || one->of.compound != NULL || one == scope->input || one == scope->output) continue;
    if (!sound) continue; /* its declaration may be what was not understood */
    errors_add(reader->errors, one->place, "'%.*s' is neither an element nor an element class", (int)one->name.length, one->name.at);
    sound = false;
  }
  return sound;
}

bool language_read(struct slice text, struct memory *memory, struct scope *root, struct errors *errors) {
  struct reader reader = {.memory = memory, .errors = errors};
  *root = (struct scope){.outer = NULL};
  if (text.length > CONFIGURATION_BYTES_MAX) return errors_add(errors, (struct place){0, 0}, "a configuration of more than %u bytes", CONFIGURATION_BYTES_MAX);
  lexer_begin(&reader.lexer, text, memory, errors);
  reader.buckets = memory_take(memory, BUCKETS * sizeof *reader.buckets);
  if (reader.buckets == NULL) return reader_no_memory(&reader);
  if (!reader_scope(&reader, root, false) || errors->count > 0) return false;
  return !own_words_in(text) || own_words_define(memory, root) || reader_no_memory(&reader);
}
