/* See date.h. Days by Howard Hinnant's civil calendar (years that begin in March). */
#include "date.h"

static const char day_names[] = "ThuFriSatSunMonTueWed"; /* 1970-01-01 was a Thursday */
static const char month_names[] = "JanFebMarAprMayJunJulAugSepOctNovDec";

static int64_t days_from_civil(int64_t year, unsigned month, unsigned day) {
  year -= month <= 2;
  int64_t era = year / 400;
  unsigned of_era = (unsigned)(year - era * 400);
  unsigned of_year = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1;
  return era * 146097 + (int64_t)(of_era * 365 + of_era / 4 - of_era / 100 + of_year) - 719468;
}

struct fields {
  unsigned year, month, day, hour, minute, second;
};

/* Matches `form` against the whole text: digits of d(ay) m(inute) h(our) s(econd) Y(ear), B for a month's name, W for letters of a
 * weekday; anything else stands for itself. */
static bool match(struct slice text, const char *form, struct fields *to) {
  memset(to, 0, sizeof *to);
  size_t at = 0;
  for (; *form != '\0'; form++) {
    if (*form == 'W') {
      size_t start = at;
      while (at < text.length && slice_lower(text.at[at]) >= 'a' && slice_lower(text.at[at]) <= 'z') at++;
      if (at - start < 3) return false;
      continue;
    }
    if (at >= text.length) return false;
    if (*form == 'B') {
      if (text.length - at < 3) return false;
      for (unsigned i = 0; i < 12; i++) {
        if (memcmp(text.at + at, month_names + 3 * i, 3) == 0) to->month = i + 1;
      }
      if (to->month == 0) return false;
      at += 3;
      continue;
    }
    char c = text.at[at++];
    unsigned *number = *form == 'd' || *form == 'D' ? &to->day : *form == 'h' ? &to->hour : *form == 'm' ? &to->minute : *form == 's' ? &to->second : *form == 'Y' ? &to->year : NULL;
    if (number == NULL) {
      if (c != *form) return false;
    } else if (*form == 'D' && c == ' ') { /* asctime pads the day with a blank */
      continue;
    } else if (!slice_is_digit(c)) {
      return false;
    } else {
      *number = *number * 10 + (unsigned)(c - '0');
    }
  }
  return at == text.length;
}

bool date_read(struct slice text, int64_t *seconds) {
  struct fields f;
  if (!match(text, "W, dd B YYYY hh:mm:ss GMT", &f)) {
    if (match(text, "W, dd-B-YY hh:mm:ss GMT", &f)) f.year += f.year < 70 ? 2000 : 1900;
    else if (!match(text, "W B Dd hh:mm:ss YYYY", &f)) return false;
  }
  if (f.year < 1601 || f.day < 1 || f.day > 31 || f.hour > 23 || f.minute > 59 || f.second > 60) return false;
  *seconds = days_from_civil(f.year, f.month, f.day) * 86400 + f.hour * 3600 + f.minute * 60 + f.second;
  return true;
}

static void two(char *to, unsigned value) {
  to[0] = (char)('0' + value / 10 % 10);
  to[1] = (char)('0' + value % 10);
}

void date_write(char text[DATE_BYTES], int64_t seconds) {
  if (seconds < 0) seconds = 0;
  int64_t days = seconds / 86400;
  unsigned rest = (unsigned)(seconds % 86400);
  int64_t z = days + 719468, era = z / 146097;
  unsigned of_era = (unsigned)(z - era * 146097);
  unsigned year_of_era = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
  unsigned of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
  unsigned shifted = (5 * of_year + 2) / 153, month = shifted < 10 ? shifted + 3 : shifted - 9;
  unsigned year = (unsigned)(era * 400) + year_of_era + (month <= 2);
  memcpy(text, day_names + 3 * (days % 7), 3);
  memcpy(text + 3, ", 00 ", 5);
  two(text + 5, of_year - (153 * shifted + 2) / 5 + 1);
  memcpy(text + 8, month_names + 3 * (month - 1), 3);
  text[11] = ' ';
  two(text + 12, year / 100);
  two(text + 14, year % 100);
  text[16] = ' ';
  two(text + 17, rest / 3600);
  text[19] = ':';
  two(text + 20, rest / 60 % 60);
  text[22] = ':';
  two(text + 23, rest % 60);
  memcpy(text + 25, " GMT", 4);
}
