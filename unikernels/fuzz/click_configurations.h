/* The ready-made configurations, as bytes of the program: for the test and the fuzz target that lead packets through each. */
#ifndef CLICK_CONFIGURATIONS_H
#define CLICK_CONFIGURATIONS_H

#define CONFIGURATION(symbol, file) \
  __asm__(".section .rodata\n" #symbol ":\n.incbin \"apps/click/configurations/" file "\"\n.byte 0\n.text"); \
  extern const char symbol[]

CONFIGURATION(configuration_router, "router.click");
CONFIGURATION(configuration_firewall, "firewall.click");
CONFIGURATION(configuration_nat, "nat.click");
CONFIGURATION(configuration_load_balancer, "load-balancer.click");
CONFIGURATION(configuration_rate_limiter, "rate-limiter.click");
CONFIGURATION(configuration_tap, "tap.click");
CONFIGURATION(configuration_ip6_router, "ip6-router.click");
/* Needs words of the guest, so it is in none of the lists. */
CONFIGURATION(configuration_waypoint, "waypoint.click");

static const char *const configurations[] = {configuration_router, configuration_firewall, configuration_nat, configuration_load_balancer, configuration_rate_limiter, configuration_tap, configuration_ip6_router};
#define CONFIGURATIONS (sizeof configurations / sizeof *configurations)

#endif
