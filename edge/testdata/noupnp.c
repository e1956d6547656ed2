/* Debian 12's whip-client is linked with libsoup 2, and its ICE library by way of UPnP with
   libsoup 3, which refuses to be in one process with the other. It asks for no UPnP: this stands
   in for that library. */
void *gupnp_simple_igd_thread_new(void) { return 0; }
void *gupnp_simple_igd_get_type(void) { return 0; }
void *gupnp_simple_igd_add_port(void) { return 0; }
void *gupnp_simple_igd_remove_port_local(void) { return 0; }
