/*
 * The whole of a Debian guest but kernel and nginx: loads the network device's module, gives it its address, becomes nginx. Static, process 1.
 * Words on the kernel's command line: guest=ADDRESS gateway=ADDRESS.
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <net/if.h>
#include <net/route.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static void word(const char *line, const char *name, char *value, size_t size) {
  const char *at = strstr(line, name);
  size_t n = 0;
  if (at != NULL)
    for (at += strlen(name); at[n] > ' ' && n + 1 < size; n++) value[n] = at[n];
  value[n] = 0;
}

static struct sockaddr_in address(const char *text) {
  struct sockaddr_in to = {.sin_family = AF_INET};
  inet_pton(AF_INET, text, &to.sin_addr);
  return to;
}

static int device_up(int control, const char *name, const char *ip) {
  struct ifreq request = {0};
  snprintf(request.ifr_name, sizeof request.ifr_name, "%s", name);
  if (ip != NULL) {
    struct sockaddr_in own = address(ip), mask = address("255.255.0.0");
    memcpy(&request.ifr_addr, &own, sizeof own);
    if (ioctl(control, SIOCSIFADDR, &request) != 0) return -1;
    memcpy(&request.ifr_netmask, &mask, sizeof mask);
    if (ioctl(control, SIOCSIFNETMASK, &request) != 0) return -1;
  }
  if (ioctl(control, SIOCGIFFLAGS, &request) != 0) return -1;
  request.ifr_flags |= IFF_UP;
  return ioctl(control, SIOCSIFFLAGS, &request);
}

int main(void) {
  char line[1024] = "", ip[20], gateway[20];
  mkdir("/proc", 0755), mkdir("/dev", 0755), mkdir("/tmp", 0755), mkdir("/sys", 0755);
  mount("proc", "/proc", "proc", 0, "");
  mount("sysfs", "/sys", "sysfs", 0, "");
  mount("devtmpfs", "/dev", "devtmpfs", 0, "");
  int file = open("/proc/cmdline", O_RDONLY);
  if (file >= 0 && read(file, line, sizeof line - 1) < 0) return 1;
  word(line, "guest=", ip, sizeof ip);
  word(line, "gateway=", gateway, sizeof gateway);
  int module = open("/xen-netfront.ko", O_RDONLY);
  if (syscall(SYS_finit_module, module, "", 0) != 0) perror("xen-netfront");
  int control = socket(AF_INET, SOCK_DGRAM, 0);
  device_up(control, "lo", "127.0.0.1");
  for (int i = 0; i < 5000 && device_up(control, "eth0", ip) != 0; i++) usleep(1000);
  struct rtentry route = {.rt_flags = RTF_UP | RTF_GATEWAY};
  struct sockaddr_in any = address("0.0.0.0"), through = address(gateway);
  memcpy(&route.rt_dst, &any, sizeof any), memcpy(&route.rt_genmask, &any, sizeof any), memcpy(&route.rt_gateway, &through, sizeof through);
  if (ioctl(control, SIOCADDRT, &route) != 0) perror("route");
  char *const argv[] = {"nginx", "-c", "/nginx.conf", NULL};
  execv("/usr/sbin/nginx", argv);
  perror("nginx");
  return 1;
}
