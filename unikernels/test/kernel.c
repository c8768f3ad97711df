/* The kernel's small parts in the world of fuzz/world.h: formatting, configuration, timers, randomness, batches. */
#include "check.h"
#include "world.h"
#include "config.h"
#include "loop.h"
#include "random.h"

static bool formats(const char *expected, const char *format, ...) __attribute__((format(printf, 2, 3)));

#include "format.h"

static bool formats(const char *expected, const char *format, ...) {
  char buffer[128];
  va_list arguments;
  va_start(arguments, format);
  size_t length = shoal_vformat(buffer, sizeof buffer, format, arguments);
  va_end(arguments);
  return strcmp(buffer, expected) == 0 && length == strlen(expected);
}

static const char *volatile no_text;

static void test_format(void) {
  char small[4];
  CHECK(formats("a 7 -7 7b 0007b 100%", "a %d %d %x %05x %d%%", 7, -7, 0x7b, 0x7b, 100));
  CHECK(formats("-9223372036854775808 18446744073709551615", "%lld %llu", (long long)INT64_MIN, 18446744073709551615ull));
  CHECK(formats("[  ab|ab  |a|(null)]", "[%4s|%-4s|%.1s|%s]", "ab", "ab", "ab", no_text));
  CHECK(formats("x42 0x10", "%c%zu %p", 'x', (size_t)42, (void *)16));
  CHECK(shoal_format(small, sizeof small, "%s", "abcdef") == 6 && strcmp(small, "abc") == 0);
  CHECK(shoal_format(NULL, 0, "%u", 12u) == 2);
}

static void test_config(void) {
  uint32_t address, mask;
  uint8_t mac[6];
  static const char line[] = " name=vm1  ip=10.64.1.1/16 flag ip=9.9.9.9/8 gw=10.64.0.1\n";
  char many[2000];
  config_init(line, sizeof line);
  CHECK(strcmp(shoal_config("name"), "vm1") == 0);
  CHECK(strcmp(shoal_config("ip"), "10.64.1.1/16") == 0); /* the first one counts */
  CHECK(strcmp(shoal_config("flag"), "") == 0 && strcmp(shoal_config("gw"), "10.64.0.1") == 0);
  CHECK(shoal_config("nam") == NULL && shoal_config("lag") == NULL);
  memset(many, 'a', sizeof many);
  config_init(many, sizeof many);
  CHECK(shoal_config("a") == NULL);
  for (size_t i = 1; i < sizeof many; i += 2) many[i] = ' ';
  config_init(many, sizeof many);
  CHECK(shoal_config("a") != NULL);
  config_init("", 0);
  CHECK(shoal_config("a") == NULL && config_is("", 0) && config_is("", 1) && !config_is("a", 1));
  config_init("name=a  ip=x", 20);
  CHECK(config_is("name=a  ip=x", 20) && config_is("name=a  ip=x", 12) && config_is("name=a\t ip=x", 20));
  CHECK(!config_is("name=a  ip=xy", 20) && !config_is("name=a  ip=", 20) && !config_is("name=b  ip=x", 20) && !config_is("", 0));
  config_init("name=b", 20);
  CHECK(strcmp(shoal_config("name"), "b") == 0 && shoal_config("ip") == NULL);
  config_init(many, sizeof many);
  CHECK(config_is(many, sizeof many));
  config_init("", 0);

  CHECK(config_parse_host("10.64.1.1/16", &address, &mask) && address == 0x0a400101 && mask == 0xffff0000);
  CHECK(config_parse_host("10.0.0.0/31", &address, &mask) && config_parse_host("10.0.0.7/32", &address, &mask));
  static const char *const wrong[] = {
    "", "10.0.0.1", "10.0.0.1/", "10.0.0.1/0", "10.0.0.1/33", "10.0.0/8", "10.0.0.256/8", "10.0.0.01/8", "10.0.0.0/8",
    "10.255.255.255/8", "0.0.0.1/8", "127.0.0.1/8", "224.0.0.1/8", "10.0.0.1/8x", "a.b.c.d/8", "4294967306.0.0.1/8", "-1.0.0.1/8",
    "10.0.0.1/08",
  };
  for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) CHECK(!config_parse_host(wrong[i], &address, &mask));
  CHECK(config_parse_mac("00:16:3e:aB:00:ff", mac) && mac[3] == 0xab && mac[5] == 0xff);
  CHECK(!config_parse_mac("00:16:3e:ab:00", mac) && !config_parse_mac("00:16:3e:ab:00:ff ", mac));
  CHECK(!config_parse_mac("01:16:3e:ab:00:ff", mac));
}

static char order[16];
static struct shoal_timer timers[3];

static void note(void *context) {
  order[strlen(order)] = *(const char *)context;
  if (*(const char *)context == 'a') shoal_timer_cancel(&timers[2]);
  if (*(const char *)context == 'b') shoal_timer_set(&timers[1], 0); /* for the past, again and again */
}

static void test_timers(void) {
  static const char names[] = "abc";
  for (int i = 0; i < 3; i++) timers[i] = (struct shoal_timer){.fire = note, .context = (void *)&names[i]};
  CHECK(timers_next_due_ns() == TIMER_NEVER);
  shoal_timer_set(&timers[1], 20);
  shoal_timer_set(&timers[0], 10);
  shoal_timer_set(&timers[2], 15);
  CHECK(timers_next_due_ns() == 10);
  timers_run(9);
  CHECK(strcmp(order, "") == 0);
  timers_run(10); /* a, which cancels c */
  CHECK(strcmp(order, "a") == 0 && timers_next_due_ns() == 20);
  timers_run(30); /* b once, though it sets itself for the past */
  CHECK(strcmp(order, "ab") == 0 && timers_next_due_ns() == 0);
  shoal_timer_set(&timers[1], 50); /* moves */
  CHECK(timers_next_due_ns() == 50);
  shoal_timer_cancel(&timers[1]);
  shoal_timer_cancel(&timers[1]);
  CHECK(timers_next_due_ns() == TIMER_NEVER);
}

static void test_random(void) {
  /* The authors' vectors (SipHash-2-4, 64 bits, key 00 to 0f, messages 00, 01, …). */
  static const uint64_t key[2] = {0x0706050403020100, 0x0f0e0d0c0b0a0908};
  uint8_t message[15], first[16], second[16];
  for (uint8_t i = 0; i < sizeof message; i++) message[i] = i;
  CHECK(siphash24(key, message, 0) == 0x726fdb47dd0e0e31);
  CHECK(siphash24(key, message, 1) == 0x74f839c593dc67fd);
  CHECK(siphash24(key, message, 15) == 0xa129ca6149be45e5);
  shoal_random(first, sizeof first);
  shoal_random(second, sizeof second);
  CHECK(memcmp(first, second, sizeof first) != 0);
  CHECK(random_keyed_hash("a", 1) == random_keyed_hash("a", 1) && random_keyed_hash("a", 1) != random_keyed_hash("b", 1));
}

static void count_flush(void *context) { ++*(int *)context; }

static void test_batches(void) {
  int flushed = 0;
  struct loop_batch batch = {.flush = count_flush, .context = &flushed};
  loop_flush_later(&batch);
  loop_flush_later(&batch);
  loop_turn();
  CHECK(flushed == 1);
  loop_turn();
  CHECK(flushed == 1);
  loop_flush_later(&batch);
  loop_turn();
  CHECK(flushed == 2);
}

int main(void) {
  test_format();
  test_config();
  test_timers();
  test_random();
  test_batches();
  CHECK_END();
}
