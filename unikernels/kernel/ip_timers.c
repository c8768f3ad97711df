/*
 * lwIP's clocks, without its habit of waking up each second for ever: ten thousand idle guests that do so keep a machine busy
 * with nothing. TCP's clock runs while there are connections; ARP's and reassembly's run while an answer is awaited, and
 * otherwise the seconds that passed are made up before the next frame is looked at, which ages entries just the same; DHCP's
 * fine clock runs while a request is out, its coarse one (a minute) only in guests that use DHCP.
 */
#include "ip.h"
#include "lwip/dhcp.h"
#include "lwip/etharp.h"
#include "lwip/ip4_frag.h"
#include "lwip/priv/tcp_priv.h"
#include "lwip/sys.h"
#if LWIP_IPV6
#include "lwip/ip6_frag.h"
#include "lwip/mld6.h"
#include "lwip/nd6.h"
#endif

#define SECOND_NS 1000000000ull
#define MS_NS 1000000ull
/* Beyond lwIP's longest age (ARP_MAXAGE, 300 seconds) more ticks change nothing. */
#define MOST_TICKS 400u

static uint64_t counted_until_ns;
static uint64_t needed_until_ns;
static struct netif *dhcp_netif;

static void on_second(void *context);
static void on_tcp(void *context);
static void on_dhcp_fine(void *context);
static void on_dhcp_coarse(void *context);
static struct shoal_timer second = {.fire = on_second};
static struct shoal_timer tcp = {.fire = on_tcp};
static struct shoal_timer dhcp_fine = {.fire = on_dhcp_fine};
static struct shoal_timer dhcp_coarse = {.fire = on_dhcp_coarse};

static void arm(struct shoal_timer *timer, uint64_t in_ns) { shoal_timer_set(timer, shoal_now_ns() + in_ns); }

void ip_timers_catch_up(void) {
  uint64_t seconds = (shoal_now_ns() - counted_until_ns) / SECOND_NS;
  if (seconds == 0) return;
  counted_until_ns += seconds * SECOND_NS;
  for (uint64_t i = 0; i < seconds && i < MOST_TICKS; i++) {
    etharp_tmr();
    ip_reass_tmr();
#if LWIP_IPV6
    nd6_tmr(); /* ND6_TMR_INTERVAL is a second */
    for (uint64_t tenth = 0; tenth < 10 && i == 0; tenth++) mld6_tmr();
#endif
  }
}

static void on_second(void *context) {
  (void)context;
  ip_timers_catch_up();
  if (shoal_now_ns() < needed_until_ns) arm(&second, SECOND_NS);
}

void ip_timers_need_seconds(unsigned seconds) {
  uint64_t until = shoal_now_ns() + seconds * SECOND_NS;
  if (until > needed_until_ns) needed_until_ns = until;
  if (!second.armed) arm(&second, SECOND_NS);
}

/* Called by lwIP when a connection begins. */
void tcp_timer_needed(void) {
  if (!tcp.armed && (tcp_active_pcbs != NULL || tcp_tw_pcbs != NULL)) arm(&tcp, TCP_TMR_INTERVAL * MS_NS);
}

static void on_tcp(void *context) {
  (void)context;
  tcp_tmr();
  tcp_timer_needed();
}

void ip_timers_check_dhcp(void) {
  const struct dhcp *dhcp = dhcp_netif == NULL ? NULL : netif_dhcp_data(dhcp_netif);
  if (dhcp != NULL && dhcp->request_timeout > 0 && !dhcp_fine.armed) arm(&dhcp_fine, DHCP_FINE_TIMER_MSECS * MS_NS);
}

static void on_dhcp_fine(void *context) {
  (void)context;
  dhcp_fine_tmr();
  ip_timers_check_dhcp();
}

static void on_dhcp_coarse(void *context) {
  (void)context;
  dhcp_coarse_tmr();
  arm(&dhcp_coarse, DHCP_COARSE_TIMER_SECS * SECOND_NS);
  ip_timers_check_dhcp();
}

void ip_timers_start(struct netif *netif) {
  counted_until_ns = shoal_now_ns();
  dhcp_netif = netif;
  shoal_timer_cancel(&dhcp_fine);
  shoal_timer_cancel(&dhcp_coarse);
  if (netif != NULL) arm(&dhcp_coarse, DHCP_COARSE_TIMER_SECS * SECOND_NS);
}

/* lwIP's own clock: milliseconds that wrap. */
u32_t sys_now(void) { return (u32_t)(shoal_now_ns() / MS_NS); }
